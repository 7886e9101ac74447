//! What an expression's text says before it is compiled: which variables it needs, and whether it holds what must not
//! run. A definition that calls itself would overflow the stack, an endless loop would only ever end by its budget.

use jaq_core::load::{
    lex::{self, Lexer, StrPart, Token},
    parse::{BinaryOp, Def, Parser, Pattern, Term},
};
use jaq_core::path::{Part, Path};

use super::{CompileError, library::FORBIDDEN};

/// Numbers of one `range`: beyond it the budget of the evaluation would be spent for certain.
const RANGE_MAX: f64 = 100_000.0;

/// Deeper than any real expression; the parser goes down one call for each level.
const BRACKETS_MAX: usize = 200;

/// Valid jq that may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    #[error("`{name}` may not be used: {why}")]
    Function { name: String, why: &'static str },
    #[error("`{name}` calls itself: expected a loop such as `reduce`, `recurse`, `until` or `limit`")]
    Recursion { name: String },
    #[error("`{name}` never ends here: {expected}")]
    Endless { name: &'static str, expected: &'static str },
    #[error("brackets are nested more than {BRACKETS_MAX} deep")]
    Nesting,
    #[error(
        "`$secrets` is not a value of its own: expected `$secrets.NAME` or `$secrets.NAME.KEY`, with names as they are written"
    )]
    Secrets,
    #[error("`$secrets.{name}` is used whole and by key: expected one of the two in one expression")]
    SecretTwice { name: String },
}

/// What the engine must know of an expression.
#[derive(Debug, Default)]
pub(super) struct Inspected<'s> {
    /// The variables that it does not bind itself, with the `$`, each once.
    pub variables: Vec<&'s str>,
    pub loops: bool,
    /// The secrets that it refers to, each with the key inside it.
    pub secrets: Vec<(&'s str, Option<&'s str>)>,
}

/// Reads the text.
pub(super) fn parse(text: &str) -> Result<Term<&str>, CompileError> {
    nesting(text)?;
    let tokens = Lexer::new(text).lex().map_err(|errors| lexing(text, &errors))?;
    Parser::new(&tokens).parse(|parser| parser.term()).map_err(|errors| {
        let (expected, found) = errors.first().map_or(("an expression", None), |(e, found)| (e.as_str(), *found));
        syntax(text, expected, Token::opt_as_str(found, text))
    })
}

fn nesting(text: &str) -> Result<(), Forbidden> {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS_MAX {
            return Err(Forbidden::Nesting);
        }
    }
    Ok(())
}

pub(super) fn lexing(text: &str, errors: &[lex::Error<&str>]) -> CompileError {
    match errors.first() {
        Some((expected, rest)) => syntax(text, expected.as_str(), rest),
        None => syntax(text, "an expression", ""),
    }
}

/// A syntax error at `rest`, a part of `text` or empty for its end.
pub(super) fn syntax(text: &str, expected: &str, rest: &str) -> CompileError {
    let offset = (rest.as_ptr() as usize).checked_sub(text.as_ptr() as usize).filter(|offset| *offset < text.len());
    let at = text.get(..offset.unwrap_or(text.len())).map_or(0, |before| before.chars().count()) + 1;
    let word: String = rest.chars().take_while(|c| !c.is_whitespace()).take(20).collect();
    let found = if offset.is_none() || word.is_empty() { "the end".to_owned() } else { format!("`{word}`") };
    let article = if expected.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    let expected = match expected {
        "nothing" => "nothing more".to_owned(),
        expected if expected.starts_with("an ") || expected.starts_with(['\'', '"']) => expected.to_owned(),
        expected => format!("{article} {expected}"),
    };
    CompileError::Syntax { expected, found, at }
}

/// Looks through the whole expression.
pub(super) fn inspect<'s>(term: &Term<&'s str>) -> Result<Inspected<'s>, Forbidden> {
    let mut walk = Walk { found: Inspected::default(), bound: Vec::new(), functions: Vec::new(), bounded: 0 };
    walk.term(term)?;
    let secrets = &walk.found.secrets;
    let whole = |name: &str| secrets.iter().any(|(other, key)| *other == name && key.is_none());
    if let Some((name, _)) = secrets.iter().find(|(name, key)| key.is_some() && whole(name)) {
        return Err(Forbidden::SecretTwice { name: (*name).to_owned() });
    }
    Ok(walk.found)
}

/// The variable that holds the secrets.
pub(super) const SECRETS: &str = "$secrets";

/// The name that a step of a path is, if it stands there as it is.
fn plain<'s>(part: &Part<Term<&'s str>>) -> Option<&'s str> {
    let Part::Index(Term::Str(None, parts)) = part else { return None };
    match parts.as_slice() {
        [StrPart::Str(name)] if !name.is_empty() && !name.contains('.') => Some(name),
        _ => None,
    }
}

struct Walk<'s> {
    found: Inspected<'s>,
    /// Variables bound around the place where we are.
    bound: Vec<&'s str>,
    /// Functions defined or passed around the place where we are: name, arity, whether its own body is being read.
    functions: Vec<(&'s str, usize, bool)>,
    /// How many calls around the place stop at some number of outputs (`limit`, `first`).
    bounded: usize,
}

impl<'s> Walk<'s> {
    fn term(&mut self, term: &Term<&'s str>) -> Result<(), Forbidden> {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Arr(None) => Ok(()),
            Term::Str(_, parts) => parts.iter().try_for_each(|part| match part {
                StrPart::Term(term) => self.term(term),
                _ => Ok(()),
            }),
            Term::Arr(Some(inner)) | Term::Neg(inner) => self.term(inner),
            Term::Label(_, inner) => self.stopped(|walk| walk.term(inner)),
            Term::Obj(entries) => entries.iter().try_for_each(|(key, value)| {
                self.term(key)?;
                value.as_ref().map_or(Ok(()), |value| self.term(value))
            }),
            Term::BinOp(left, BinaryOp::Pipe(Some(pattern)), right) => {
                self.term(left)?;
                self.binding(pattern, |walk| walk.term(right))
            }
            Term::BinOp(left, _, right) => {
                self.term(left)?;
                self.term(right)
            }
            Term::Fold(_, source, pattern, bodies) => {
                self.found.loops = true;
                self.term(source)?;
                self.binding(pattern, |walk| bodies.iter().try_for_each(|body| walk.term(body)))
            }
            Term::TryCatch(attempt, catch) => {
                self.term(attempt)?;
                catch.as_ref().map_or(Ok(()), |catch| self.term(catch))
            }
            Term::IfThenElse(branches, otherwise) => {
                for (condition, then) in branches {
                    self.term(condition)?;
                    self.term(then)?;
                }
                otherwise.as_ref().map_or(Ok(()), |otherwise| self.term(otherwise))
            }
            Term::Def(definitions, inner) => self.definitions(definitions, inner),
            Term::Call(name, arguments) => self.call(name, arguments),
            Term::Var(name) if *name == SECRETS && !self.bound.contains(name) => Err(Forbidden::Secrets),
            Term::Var(name) => {
                if !self.bound.contains(name) && !self.found.variables.contains(name) {
                    self.found.variables.push(name);
                }
                Ok(())
            }
            Term::Path(inner, path) => {
                match &**inner {
                    Term::Var(name) if *name == SECRETS && !self.bound.contains(name) => self.secret(path)?,
                    inner => self.term(inner)?,
                }
                self.path(path)
            }
        }
    }

    /// `$secrets.name` or `$secrets.name.key`: which secrets a workflow uses must be known before it runs.
    fn secret(&mut self, path: &Path<Term<&'s str>>) -> Result<(), Forbidden> {
        let found = match path.0.as_slice() {
            [(name, _)] => plain(name).map(|name| (name, None)),
            [(name, _), (key, _)] => plain(name).zip(plain(key)).map(|(name, key)| (name, Some(key))),
            _ => None,
        };
        let found = found.ok_or(Forbidden::Secrets)?;
        if !self.found.variables.contains(&SECRETS) {
            self.found.variables.push(SECRETS);
        }
        if !self.found.secrets.contains(&found) {
            self.found.secrets.push(found);
        }
        Ok(())
    }

    fn path(&mut self, path: &Path<Term<&'s str>>) -> Result<(), Forbidden> {
        path.0.iter().try_for_each(|(part, _)| match part {
            Part::Index(index) => self.term(index),
            Part::Range(from, to) => from.iter().chain(to).try_for_each(|bound| self.term(bound)),
        })
    }

    fn stopped(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Forbidden>) -> Result<(), Forbidden> {
        self.bounded += 1;
        let outcome = read(self);
        self.bounded -= 1;
        outcome
    }

    fn binding(
        &mut self,
        pattern: &Pattern<&'s str>,
        read: impl FnOnce(&mut Self) -> Result<(), Forbidden>,
    ) -> Result<(), Forbidden> {
        let before = self.bound.len();
        self.pattern(pattern)?;
        read(self)?;
        self.bound.truncate(before);
        Ok(())
    }

    fn pattern(&mut self, pattern: &Pattern<&'s str>) -> Result<(), Forbidden> {
        match pattern {
            Pattern::Var(name) => self.bound.push(name),
            Pattern::Arr(items) => items.iter().try_for_each(|item| self.pattern(item))?,
            Pattern::Obj(entries) => {
                for (key, value) in entries {
                    // `{$x}` binds what its key names.
                    if let Term::Var(name) = key {
                        self.bound.push(name);
                    } else {
                        self.term(key)?;
                    }
                    self.pattern(value)?;
                }
            }
        }
        Ok(())
    }

    fn definitions(&mut self, definitions: &[Def<&'s str>], inner: &Term<&'s str>) -> Result<(), Forbidden> {
        let (functions, bound) = (self.functions.len(), self.bound.len());
        for def in definitions {
            self.functions.push((def.name, def.args.len(), true));
            let before = (self.functions.len(), self.bound.len());
            for argument in &def.args {
                if argument.starts_with('$') {
                    self.bound.push(argument);
                } else {
                    self.functions.push((argument, 0, false));
                }
            }
            self.term(&def.body)?;
            self.functions.truncate(before.0);
            self.bound.truncate(before.1);
            // Its body is read: whoever calls it from here on does not recurse.
            if let Some(own) = self.functions.last_mut() {
                own.2 = false;
            }
        }
        self.term(inner)?;
        self.functions.truncate(functions);
        self.bound.truncate(bound);
        Ok(())
    }

    fn call(&mut self, name: &'s str, arguments: &[Term<&'s str>]) -> Result<(), Forbidden> {
        let mut own = self.functions.iter().rev();
        let own = own.find(|(own, arity, _)| *own == name && *arity == arguments.len()).copied();
        match own {
            Some((_, _, true)) => return Err(Forbidden::Recursion { name: name.to_owned() }),
            Some(_) => {}
            None => self.builtin(name, arguments)?,
        }
        let stops = own.is_none() && matches!(name, "limit" | "first" | "isempty" | "any" | "all" | "nth");
        let read = |walk: &mut Self| arguments.iter().try_for_each(|argument| walk.term(argument));
        if stops { self.stopped(read) } else { read(self) }
    }

    /// A function of the library: is it one of those left out, or a loop that cannot end?
    fn builtin(&mut self, name: &'s str, arguments: &[Term<&'s str>]) -> Result<(), Forbidden> {
        if let Some((name, why)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name) {
            return Err(Forbidden::Function { name: (*name).to_owned(), why });
        }
        let endless = |name, expected| Err(Forbidden::Endless { name, expected });
        match (name, arguments) {
            ("repeat", _) if self.bounded == 0 => endless("repeat", "put it into `limit(n; ..)` or `first(..)`"),
            ("until", [Term::Call("false", _), _]) => endless("until", "expected a condition that can become true"),
            ("while", [Term::Call("true", _), _]) if self.bounded == 0 => {
                endless("while", "expected a condition that can become false")
            }
            ("range", arguments) if self.bounded == 0 && rounds(arguments) > RANGE_MAX => {
                endless("range", "expected at most 100000 numbers")
            }
            (
                "repeat" | "until" | "while" | "range" | "recurse" | "walk" | "combinations" | "limit" | "fromjson",
                _,
            ) => {
                self.found.loops = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// How many numbers a `range` of constants gives; 0 when its bounds are not constant.
fn rounds(arguments: &[Term<&str>]) -> f64 {
    fn constant(term: &Term<&str>) -> Option<f64> {
        match term {
            Term::Num(number) => number.parse().ok(),
            Term::Neg(inner) => constant(inner).map(|number| -number),
            Term::Call("infinite", arguments) if arguments.is_empty() => Some(f64::INFINITY),
            _ => None,
        }
    }
    let constants: Option<Vec<f64>> = arguments.iter().map(constant).collect();
    match constants.as_deref() {
        Some([to]) => *to,
        Some([from, to]) => to - from,
        Some([from, to, by]) if *by == 0.0 && from != to => f64::INFINITY,
        Some([from, to, by]) => (to - from) / by,
        _ => 0.0,
    }
}
