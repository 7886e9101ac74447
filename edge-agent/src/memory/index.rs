//! Keeps what can be found in step with the documents of the bundle: reads what is new, embeds it, stores it, forgets what
//! is gone. Runs beside everything else; a search meanwhile sees what is done so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use models::{embed::Embedder, index::Index};
use rusqlite::{OptionalExtension as _, params};
use shared::digest::Digest;

use super::{
    Inner,
    chunk::{Chunk, TooMany, chunk},
    desk::{self, Asker, Work, pieces},
    documents::Document,
    episode::Episode,
    limits::Bounds,
    locks::write,
    reading, room,
    roster::Kin,
    shelf::Served,
    wipe::Wiping,
};
use crate::store;

/// Why a document is not in the index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("cannot embed the document {document}")]
    Embed { document: String, source: models::Error },
    #[error("cannot read the document {document}")]
    Read { document: String, source: std::io::Error },
    #[error("cannot read the document {document}: {why}")]
    Form { document: String, why: String },
    #[error("the document {document} was changed while it was read")]
    Changed { document: String },
    #[error("nobody waits for the document {document} any more")]
    GivenUp { document: String },
    #[error(transparent)]
    Late(desk::Error),
    #[error("cannot keep the vector index {name}")]
    Index { name: String, source: models::Error },
    #[error("cannot start a thread for the vector index {name}")]
    Thread { name: String, source: std::io::Error },
    #[error("cannot make the folder {}", folder.display())]
    Shelf { folder: std::path::PathBuf, source: std::io::Error },
}

/// Vectors of one document: what MiniLM's 50,000 passages take. Where another embedder still serves they are held twice.
const VECTORS_BYTES_MAX: usize = 80_000_000;

/// A document without its chunks.
const INSERT: &str = "INSERT INTO memory_document \
    (idx, path, digest, label, embedder, remembered, source, subject, bytes, expires) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING id";

/// What the store holds of one document.
struct Known {
    id: i64,
    digest: Vec<u8>,
    label: String,
}

type Key = (String, String);

/// Who brings a text, and may take it away.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Origin {
    Bundle,
    Remembered(Kept),
}

/// What is said of a kept text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Where it came from.
    pub source: Option<String>,
    /// Whom or what it is about.
    pub subject: Option<String>,
    /// Without it, until it is forgotten.
    pub keep_for: Option<Duration>,
    /// Of the index.
    pub bounds: Bounds,
    /// What the text is the situation of.
    pub episode: Option<Episode>,
}

impl Origin {
    const fn kept(&self) -> Option<&Kept> {
        match self {
            Self::Bundle => None,
            Self::Remembered(kept) => Some(kept),
        }
    }

    /// As the store tells them apart.
    const fn form(&self) -> i64 {
        match self {
            Self::Bundle => 0,
            Self::Remembered(Kept { episode: None, .. }) => room::TEXTS,
            Self::Remembered(Kept { episode: Some(_), .. }) => room::EPISODES,
        }
    }

    /// What its chunks have in common.
    fn kin(&self, label: &str) -> Kin {
        let kept = self.kept();
        let outcome = kept.and_then(|kept| Some(kept.episode.as_ref()?.outcome.clone()));
        let source = kept.and_then(|kept| kept.source.clone());
        Kin { label: serde_json::from_str(label).ok(), form: self.form(), source, outcome }
    }

    /// The pieces that a text is found by; a situation is one.
    fn chunks(&self, path: &str, text: &str) -> Result<Vec<Chunk>, TooMany> {
        match self {
            Self::Remembered(Kept { episode: Some(_), source, .. }) => {
                Ok(vec![Chunk { place: source.clone().unwrap_or_default(), text: text.to_owned() }])
            }
            _ => chunk(text, reading::form(path)),
        }
    }
}

/// A text that is to be found.
pub(super) struct Text<'t> {
    pub index: &'t str,
    pub path: &'t str,
    pub text: &'t str,
    pub digest: Digest,
    pub origin: Origin,
    /// Asked from time to time while it is embedded, which takes minutes for a long text and a large model.
    pub is_given_up: &'t (dyn Fn() -> bool + Sync),
}

/// What is embedded of a chunk: the headings with the text, because a paragraph often does not say what it is about.
pub(super) fn embedded(place: &str, text: &str) -> String {
    format!("{place}\n{text}")
}

/// A chunk's vector as the store keeps it.
pub(super) fn to_blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn from_blob(blob: &[u8]) -> Vec<f32> {
    blob.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks of 4 bytes"))).collect()
}

impl Inner {
    /// Brings the store and the vectors in step with these documents, or stops once they are outdated. A document that
    /// fails is left as it was and named; the others go on.
    pub(super) fn refresh(
        &self,
        documents: &[Document],
        is_outdated: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Error>, Error> {
        let known = self.known()?;
        let wanted: BTreeSet<Key> = documents.iter().map(|d| (d.index.clone(), d.path.clone())).collect();
        for (key, gone) in known.iter().filter(|(key, _)| !wanted.contains(key)) {
            self.forget(&key.0, gone.id)?;
        }
        let mut failed = Vec::new();
        for document in documents {
            // A newer bundle came meanwhile: the rest would be done twice.
            if is_outdated() {
                break;
            }
            self.heal()?;
            let before = known.get(&(document.index.clone(), document.path.clone()));
            let label = serde_json::to_string(&document.label).expect("a label is plain data");
            // One that another embedder made is embedded again below, as it is stored.
            match before.filter(|known| known.digest == document.digest.as_bytes()) {
                Some(known) if known.label == label => {}
                Some(known) => self.relabel(document, known.id, label)?,
                None => match self.index(document, label, is_outdated) {
                    Ok(()) | Err(Error::GivenUp { .. }) => {}
                    Err(Error::Store(error)) => return Err(error.into()),
                    Err(error) => failed.push(error),
                },
            }
        }
        // Where the disk has no room for it, it serves until the process ends.
        self.outlive().unwrap_or_else(|error| tracing::warn!(%error, "an index does not outlive a restart"));
        self.heal()?;
        let names = documents.iter().map(|document| document.index.clone());
        if !is_outdated() {
            write(&self.whole).extend(names);
        }
        self.complete(is_outdated)?;
        self.renew(is_outdated)?;
        self.switch()?;
        Ok(failed)
    }

    fn known(&self) -> Result<BTreeMap<Key, Known>, Error> {
        let read = self.store.read_blocking("list the documents", |connection| {
            let mut query =
                connection.prepare("SELECT idx, path, id, digest, label FROM memory_document WHERE NOT remembered")?;
            let row = |row: &rusqlite::Row<'_>| {
                let known = Known { id: row.get(2)?, digest: row.get(3)?, label: row.get(4)? };
                Ok(((row.get(0)?, row.get(1)?), known))
            };
            query.query_map([], row)?.collect()
        });
        Ok(read?)
    }

    fn relabel(&self, document: &Document, id: i64, label: String) -> Result<(), Error> {
        let chunks = self.store.write_blocking("label a document", move |tx| {
            tx.connection().execute("UPDATE memory_document SET label = ?2 WHERE id = ?1", params![id, label])?;
            let mut query = tx.connection().prepare_cached("SELECT id FROM memory_chunk WHERE document = ?1")?;
            let chunks = query.query_map([id], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
            Ok(chunks.collect::<rusqlite::Result<Vec<_>>>()?)
        })?;
        let kin = Kin { label: Some(document.label.clone()), form: 0, source: None, outcome: None };
        self.changing(|indexes| {
            if let Some(served) = indexes.get_mut(&document.index) {
                served.roster.change(&chunks, &kin);
            }
        });
        Ok(())
    }

    fn forget(&self, index: &str, document: i64) -> Result<(), Error> {
        let ids = self
            .store
            .write_blocking("forget a document", move |tx| Ok(Wiping::begin(tx.connection())?.remove(document)?))?;
        self.hide(index, &ids);
        Ok(())
    }

    fn index(&self, document: &Document, label: String, is_given_up: &(dyn Fn() -> bool + Sync)) -> Result<(), Error> {
        let name = || format!("{}/{}", document.index, document.path);
        let content = std::fs::read(&document.file).map_err(|source| Error::Read { document: name(), source })?;
        if Digest::of(&content) != document.digest {
            return Err(Error::Changed { document: name() });
        }
        let text = reading::text(&document.path, content).map_err(|why| Error::Form { document: name(), why })?;
        let Document { index, path, digest, .. } = document;
        self.put(&Text { index, path, text: &text, digest: *digest, origin: Origin::Bundle, is_given_up }, label)
    }

    /// Cuts a text, embeds it and stores it, in place of the one that stood there.
    pub(super) fn put(&self, given: &Text<'_>, label: String) -> Result<(), Error> {
        let name = || format!("{}/{}", given.index, given.path);
        let chunks = given.origin.chunks(given.path, given.text);
        let chunks = chunks.map_err(|why| Error::Form { document: name(), why: why.to_string() })?;
        let (most, found) = (passages_max(self.embedder.dimensions()), chunks.len());
        if found > most {
            let why = format!("it comes to {found} passages: expected at most {most} with this embedder");
            return Err(Error::Form { document: name(), why });
        }
        let texts: Vec<String> = chunks.iter().map(|chunk| embedded(&chunk.place, &chunk.text)).collect();
        let vectors = self.vectors(&*self.embedder, &name(), &texts, given.is_given_up)?;
        let former = self.vectors_before(given.index, &name(), &texts, given.is_given_up);
        let kin = given.origin.kin(&label);
        let vectors = Arc::new(vectors);
        let rows = Arc::clone(&vectors);
        let (index, path, digest) = (given.index.to_owned(), given.path.to_owned(), given.digest);
        let (embedder, origin, bytes) = (self.embedder.digest(), given.origin.clone(), given.text.len());
        let age = Arc::clone(&self.age);
        let (gone, ids, expires) = self.store.write_blocking("store a document", move |tx| {
            let connection = tx.connection();
            let wiping = Wiping::begin(connection)?;
            let (kept, form) = (origin.kept(), origin.form());
            let episode = kept.and_then(|kept| kept.episode.as_ref());
            let bytes = (bytes + episode.map_or(0, Episode::bytes)) as u64;
            let before: Option<i64> = connection
                .prepare_cached("SELECT id FROM memory_document WHERE idx = ?1 AND path = ?2 AND remembered = ?3")?
                .query_row(params![index, path, form], |row| row.get(0))
                .optional()?;
            let mut gone = before.map_or(Ok(Vec::new()), |before| wiping.remove(before))?;
            if let Some(kept) = kept {
                gone.extend(room::make(&wiping, (&index, form), bytes, kept.bounds, age.now(connection)?)?);
            }
            let expires = age.after(connection, kept.and_then(|kept| kept.keep_for))?;
            let bytes = kept.map_or(0, |_| bytes.cast_signed());
            let (source, subject) = kept.map_or((&None, &None), |kept| (&kept.source, &kept.subject));
            let (digest, embedder) = (digest.as_bytes().as_slice(), embedder.as_bytes().as_slice());
            let values = params![index, path, digest, label, embedder, form, source, subject, bytes, expires];
            let id: i64 = connection.prepare_cached(INSERT)?.query_row(values, |row| row.get(0))?;
            if let Some(episode) = episode {
                episode.insert(connection, id)?;
            }
            if expires.is_some() {
                age.write(connection)?;
            }
            let mut insert = connection.prepare_cached(
                "INSERT INTO memory_chunk (document, place, text, vector) VALUES (?1, ?2, ?3, ?4) RETURNING id",
            )?;
            let mut ids: Vec<i64> = Vec::with_capacity(rows.len());
            for (chunk, vector) in chunks.iter().zip(&*rows) {
                ids.push(insert.query_row(params![id, chunk.place, chunk.text, to_blob(vector)], |row| row.get(0))?);
            }
            Ok((gone, ids, expires))
        })?;
        self.hide(given.index, &gone);
        self.place(given.index, &Placed { ids, vectors, former, kin, expires });
        Ok(())
    }

    /// Makes chunks findable.
    fn place(&self, index: &str, placed: &Placed) {
        let Placed { ids, vectors, former, kin, expires } = placed;
        self.changing(|indexes| {
            let served = indexes.entry(index.to_owned()).or_insert_with(|| Served::of(self.fresh()));
            for (at, (id, vector)) in ids.iter().zip(vectors.iter()).enumerate() {
                let id = id.cast_unsigned();
                if !served.roster.insert(id, kin, *expires) {
                    continue;
                }
                insert(served.newest(), id, vector);
                let before = former.as_ref().filter(|(embedder, _)| served.is_before(*embedder));
                if let Some(vector) = before.and_then(|(_, vectors)| vectors.get(at)) {
                    insert(&mut served.index, id, vector);
                }
            }
        });
    }

    /// Gives chunks that can be found already the vectors of the present embedder.
    pub(super) fn replace(&self, index: &str, ids: &[i64], vectors: &[Vec<f32>]) {
        self.changing(|indexes| {
            let Some(served) = indexes.get_mut(index) else { return };
            for (id, vector) in ids.iter().zip(vectors) {
                // What was forgotten meanwhile does not come back.
                if served.roster.has(id.cast_unsigned()) {
                    insert(served.newest(), id.cast_unsigned(), vector);
                }
            }
        });
    }

    /// Makes chunks not findable any more.
    pub(super) fn hide(&self, index: &str, gone: &[i64]) {
        if gone.is_empty() {
            return;
        }
        self.changing(|indexes| {
            // Those who store what is removed here may still be about to place it.
            let served = indexes.entry(index.to_owned()).or_insert_with(|| Served::of(self.fresh()));
            gone.iter().for_each(|id| served.remove(id.cast_unsigned()));
        });
    }

    /// Takes out of an index what is kept no longer at this age, before anybody takes it out of the store.
    pub(super) fn end(&self, index: &str, age: i64) {
        if self.indexes().get(index).is_some_and(|served| served.roster.has_ended(age)) {
            self.changing(|indexes| {
                if let Some(served) = indexes.get_mut(index) {
                    served.end(age);
                }
            });
        }
    }

    /// One vector a text; `name` is whose.
    pub(super) fn vectors(
        &self,
        embedder: &dyn Embedder,
        name: &str,
        texts: &[String],
        is_given_up: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let _use = self.rest.r#use();
        let (asker, model) = (Asker::chore(&self.desk, is_given_up), self.model(embedder));
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let made = || -> Result<Vec<Vec<f32>>, desk::Error> {
            let mut vectors = Vec::with_capacity(texts.len());
            for piece in pieces(&texts, |text| embedder.size(text)) {
                // Behind whoever waits by then.
                let seat = asker.begin(&Work { model, tokens: piece.tokens, is_loaded: true })?;
                vectors.extend(seat.piece(&piece, |texts| embedder.embed(texts))?);
            }
            Ok(vectors)
        };
        made().map_err(|error| match error {
            desk::Error::Model(source) => Error::Embed { document: name.to_owned(), source },
            // It has no deadline and is turned away by nobody.
            _ => Error::GivenUp { document: name.to_owned() },
        })
    }

    /// The vectors by which texts are found until the index of the present embedder is complete, where another one serves until then.
    fn vectors_before(
        &self,
        index: &str,
        name: &str,
        texts: &[String],
        is_given_up: &(dyn Fn() -> bool + Sync),
    ) -> Option<(Digest, Vec<Vec<f32>>)> {
        let digest = self.indexes().get(index).filter(|served| served.next.is_some())?.index.embedder();
        let vectors = self.vectors(&*self.embedder_of(digest)?, name, texts, is_given_up);
        vectors
            .map_err(
                |error| tracing::warn!(%error, "a text is found by its words alone until the new index is complete"),
            )
            .ok()
            .map(|vectors| (digest, vectors))
    }
}

/// How many passages of a document, whose vectors have so many numbers, are held in memory together until they are stored.
const fn passages_max(dimensions: usize) -> usize {
    VECTORS_BYTES_MAX / (size_of::<f32>() * dimensions)
}

/// Chunks that were stored.
struct Placed {
    ids: Vec<i64>,
    vectors: Arc<Vec<Vec<f32>>>,
    /// Those of the embedder before, and which that is.
    former: Option<(Digest, Vec<Vec<f32>>)>,
    kin: Kin,
    /// The age at which they are found no more.
    expires: Option<i64>,
}

pub(super) fn insert(index: &mut Index, id: u64, vector: &[f32]) {
    if let Err(error) = index.insert(id, vector) {
        tracing::warn!(id, %error, "a vector cannot be used; the chunk is found by its words alone");
    }
}
