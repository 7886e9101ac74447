//! What rules decide, and the words for what is wrong with them.

use proptest::prelude::*;

use super::*;
use crate::{label::Label, policy::TargetKind};

fn label(class: DataClass, origins: &[&str], personal: bool) -> Label {
    Label { class, origins: origins.iter().map(|&origin| origin.to_owned()).collect(), personal }
}

fn target(kind: TargetKind, name: &str, jurisdiction: Option<&str>) -> Target {
    Target { jurisdiction: jurisdiction.map(str::to_owned), ..Target::new(kind, name) }
}

fn ask(set: &PolicySet, action: Action, target: Target, label: Label) -> Result<Permit, Refusal> {
    let node_jurisdiction = "CH".to_owned();
    set.decide(&Request { action, workflow: "plant/pumps".to_owned(), agent: None, target, label, node_jurisdiction })
}

fn parse(text: &str) -> Result<PolicySet, Problems> {
    PolicySet::parse(&[("policies/site.cedar".to_owned(), text.to_owned())])
}

fn problems(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn the_default_lets_open_data_out_and_names_the_rule() {
    let set = PolicySet::default_rules();
    let cloud = || target(TargetKind::Cloud, "cloud/large", Some("US"));
    let permit = ask(&set, Action::Infer, cloud(), label(DataClass::Internal, &["CH"], false)).unwrap();
    assert_eq!((permit.rules(), permit.target()), (&["cloud-for-open-data".to_owned()][..], &cloud()));
    let permit = ask(&set, Action::Publish, target(TargetKind::Topic, "alarms/a", None), Label::default()).unwrap();
    assert_eq!(permit.rules(), ["publish-on-site"]);
}

#[test]
fn a_rule_may_narrow_what_an_agent_of_a_workflow_does() {
    let rules = "@id(\"topics\") permit (principal, action == Action::\"publish\", resource);\n\
        @id(\"scout-only-looks\") forbid (principal, action == Action::\"publish\", resource) when { context.agent == \"scout\" };";
    let set = parse(rules).unwrap();
    let asked = |agent: Option<&str>| {
        let (workflow, agent) = ("plant/pumps".to_owned(), agent.map(str::to_owned));
        let (target, label) = (target(TargetKind::Topic, "alarms/a", None), Label::default());
        set.decide(&Request {
            action: Action::Publish,
            workflow,
            agent,
            target,
            label,
            node_jurisdiction: "CH".to_owned(),
        })
    };
    assert_eq!(asked(Some("scout")).unwrap_err().rules, ["scout-only-looks"]);
    assert_eq!(asked(Some("expert")).unwrap().rules(), ["topics"]);
    assert_eq!(asked(None).unwrap().rules(), ["topics"]);
}

#[test]
fn what_no_rule_permits_is_refused_in_words() {
    let set = PolicySet::default_rules();
    let cloud = target(TargetKind::Cloud, "cloud/large", Some("US"));
    let refusal = ask(&set, Action::Infer, cloud, label(DataClass::Confidential, &["CH", "DE"], true)).unwrap_err();
    assert_eq!(refusal.rules, Vec::<String>::new());
    assert_eq!(
        refusal.to_string(),
        "no rule permits `infer` on cloud/large with confidential personal data from CH, DE"
    );
}

proptest! {
    #[test]
    fn strict_or_personal_data_never_leaves_the_node_by_default(
        class in prop_oneof![Just(DataClass::Public), Just(DataClass::Internal), Just(DataClass::Confidential), Just(DataClass::Restricted)],
        personal in any::<bool>(),
        action in proptest::sample::select(Action::ALL.to_vec()),
        jurisdiction in proptest::option::of("[A-Z]{2}"),
        kind in proptest::sample::select(vec![
            TargetKind::Cloud, TargetKind::Host, TargetKind::Tool, TargetKind::RemoteTopic,
        ]),
    ) {
        let set = PolicySet::default_rules();
        let strict = personal || class >= DataClass::Confidential;
        let asked = ask(&set, action, target(kind, "example.org", jurisdiction.as_deref()), label(class, &["CH"], personal));
        // Messages of a topic come in; to take them sends nothing.
        prop_assert!(action == Action::Subscribe || !(strict && asked.is_ok()), "{asked:?}");
    }
}

#[test]
fn by_default_nothing_runs_and_a_rule_may_go_by_the_name() {
    let command = |name: &str| target(TargetKind::Command, name, None);
    let refusal = ask(&PolicySet::default_rules(), Action::Run, command("ls"), Label::default()).unwrap_err();
    assert_eq!(refusal.reason, "no rule permits `run` on ls with public data");
    let rule = r#"@id("status") permit (principal, action == Action::"run", resource)
        when { resource.kind == "command" && resource.name like "systemctl status *" };"#;
    let set = parse(rule).unwrap();
    assert!(ask(&set, Action::Run, command("systemctl status nginx"), Label::default()).is_ok());
    assert!(ask(&set, Action::Run, command("ls; systemctl status nginx"), Label::default()).is_err());
}

#[test]
fn a_secret_may_be_kept_from_a_workflow() {
    let secret = || target(TargetKind::Secret, "erp", None);
    assert!(ask(&PolicySet::default_rules(), Action::UseSecret, secret(), Label::default()).is_ok());
    let rule = r#"@id("erp-is-for-orders") forbid (principal, action == Action::"useSecret", resource == Target::"erp")
        unless { principal == Workflow::"plant/orders" };"#;
    let files = [("a.cedar".to_owned(), PolicySet::DEFAULT.to_owned()), ("b.cedar".to_owned(), rule.to_owned())];
    let refusal = ask(&PolicySet::parse(&files).unwrap(), Action::UseSecret, secret(), Label::default()).unwrap_err();
    assert_eq!(refusal.rules, ["erp-is-for-orders"]);
}

#[test]
fn a_rule_keeps_data_born_in_a_country_there() {
    let rule = r#"
        @id("swiss-data-stays") forbid (principal, action, resource)
        when { context.origins.contains("CH") } unless { resource.jurisdiction == "CH" };
    "#;
    let files = [("a.cedar".to_owned(), PolicySet::DEFAULT.to_owned()), ("b.cedar".to_owned(), rule.to_owned())];
    let set = PolicySet::parse(&files).unwrap();
    let infer = |jurisdiction, origins: &[&str]| {
        let cloud = target(TargetKind::Cloud, "cloud/large", jurisdiction);
        ask(&set, Action::Infer, cloud, label(DataClass::Internal, origins, false))
    };
    assert!(infer(Some("CH"), &["CH", "DE"]).is_ok());
    assert!(infer(Some("US"), &["DE"]).is_ok());
    for elsewhere in [Some("US"), None] {
        let refusal = infer(elsewhere, &["CH", "DE"]).unwrap_err();
        assert_eq!(refusal.rules, ["swiss-data-stays"]);
        assert_eq!(
            refusal.reason,
            "`infer` on cloud/large with internal data from CH, DE is forbidden by swiss-data-stays"
        );
    }
    // A model on the node stands where the node stands.
    let local = target(TargetKind::Local, "local/extract", None);
    assert!(ask(&set, Action::Infer, local, label(DataClass::Restricted, &["CH"], true)).is_ok());
}

#[test]
fn every_rule_that_decided_is_named() {
    let set = parse(
        r#"@id("b") permit (principal, action, resource);
           @id("a") permit (principal == Workflow::"plant/pumps", action, resource);
           @id("c") permit (principal == Workflow::"plant/other", action, resource);"#,
    )
    .unwrap();
    let permit = ask(&set, Action::Approve, target(TargetKind::Role, "lead", None), Label::default()).unwrap();
    assert_eq!(permit.rules(), ["a", "b"]);
}

#[test]
fn a_rule_that_fails_refuses_instead_of_being_skipped() {
    let set = parse(
        r#"@id("all") permit (principal, action, resource);
           @id("too-big") forbid (principal, action, resource) when { context.class + 9223372036854775807 > 5 };"#,
    )
    .unwrap();
    let role = || target(TargetKind::Role, "lead", None);
    let refusal = ask(&set, Action::Approve, role(), label(DataClass::Internal, &[], false)).unwrap_err();
    assert!(refusal.reason.starts_with("policy failed for `approve` on lead"), "{}", refusal.reason);
}

#[test]
fn a_syntax_error_names_its_line() {
    let text = "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.class <=> 1 };\n";
    assert!(
        problems(text).starts_with("policies/site.cedar:3:24: unexpected token `>`: expected "),
        "{}",
        problems(text)
    );
}

#[test]
fn a_rule_that_contradicts_the_schema_names_its_line_and_rule() {
    let text = "@id(\"a\")\npermit (principal, action, resource)\nwhen { context.clas <= 1 };\n";
    let expected = "policies/site.cedar:3:8: a: attribute `clas` in context not found: did you mean `class`?";
    assert_eq!(problems(text), expected);
    let text = "@id(\"a\")\npermit (principal, action == Action::\"inferr\", resource);\n";
    // What Cedar takes for the nearest name is its own business.
    let expected = "policies/site.cedar:2:30: a: unrecognized action `Action::\"inferr\"`: did you mean";
    assert!(problems(text).starts_with(expected), "{}", problems(text));
}

#[test]
fn a_rule_without_a_name_or_with_a_taken_one_is_refused() {
    let text = "@id(\"a\") permit (principal, action, resource);\npermit (principal, action, resource);\n";
    assert_eq!(
        problems(text),
        "policies/site.cedar:2:1: the rule has no name: write `@id(\"what-it-says\")` in front of it"
    );
    let text = "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);\n";
    assert_eq!(
        problems(text),
        "policies/site.cedar:2:1: a: another rule of this name is in policies/site.cedar: names are unique over all files"
    );
}

#[test]
fn the_digest_follows_every_byte() {
    let one = parse("@id(\"a\") permit (principal, action, resource);").unwrap();
    let same = parse("@id(\"a\") permit (principal, action, resource);").unwrap();
    let other = parse("@id(\"a\") permit (principal, action, resource); ").unwrap();
    assert_eq!(one.digest(), same.digest());
    assert_ne!(one.digest(), other.digest());
}
