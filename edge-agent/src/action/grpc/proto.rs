//! Proto files, compiled where they are needed; what they import is fetched from beside them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use edge_core::engine::effect::{Failure, kind};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use shared::digest::Digest;

use super::super::{
    document::{Document, Resource},
    errand::Errand,
};

/// Files that one file brings with it, directly or not.
const IMPORTS_MAX: usize = 64;
/// Compiled sets; beyond it all are forgotten and compiled again.
const POOLS_MAX: usize = 32;
/// What the compiler itself knows.
const KNOWN: &str = "google/protobuf/";

/// Compiled files, by their text and that of all that they import.
#[derive(Default)]
pub(in super::super) struct Pools(Mutex<HashMap<Digest, DescriptorPool>>);

/// The texts of files by the names under which they are imported.
struct Fetched(BTreeMap<String, Arc<Document>>);

impl FileResolver for Fetched {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let document = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, &document.text)
    }
}

impl Pools {
    /// The file and what it imports, compiled.
    pub(super) async fn pool(&self, errand: &Errand<'_>, resource: &Resource) -> Result<DescriptorPool, Failure> {
        const MAIN: &str = "service.proto";
        let main = errand.ways.documents.fetch(errand, resource).await?;
        let files = imports(errand, MAIN, main).await?;
        let texts: Vec<_> = files.iter().map(|(name, document)| format!("{name} {}", document.text)).collect();
        let digest = Digest::of(texts.join("\0").as_bytes());
        if let Some(pool) = self.0.lock().expect("no thread panicked with the protos").get(&digest) {
            return Ok(pool.clone());
        }
        let pool = compile(MAIN, files).map_err(|error| {
            errand.failure(kind::CONFIGURATION, &format!("the proto file cannot be compiled: {error}"))
        })?;
        let mut pools = self.0.lock().expect("no thread panicked with the protos");
        if pools.len() >= POOLS_MAX {
            pools.clear();
        }
        pools.insert(digest, pool.clone());
        Ok(pool)
    }
}

/// The file with all that it imports. A name is relative to the file that the task names.
async fn imports(
    errand: &Errand<'_>,
    name: &str,
    main: Arc<Document>,
) -> Result<BTreeMap<String, Arc<Document>>, Failure> {
    let base = main.base.clone();
    let mut files = BTreeMap::new();
    let mut waiting = vec![(name.to_owned(), main)];
    while let Some((name, document)) = waiting.pop() {
        let file = File::from_source(&name, &document.text)
            .map_err(|error| errand.failure(kind::CONFIGURATION, &format!("the proto file {name}: {error}")))?;
        let wanted = file.file_descriptor_proto().dependency.clone();
        files.insert(name, document);
        for wanted in wanted {
            if wanted.starts_with(KNOWN) || files.contains_key(&wanted) {
                continue;
            }
            if files.len() + waiting.len() >= IMPORTS_MAX {
                return Err(errand.failure(kind::CONFIGURATION, &format!("more than {IMPORTS_MAX} imported files")));
            }
            let address = base.join(&wanted).unwrap_or_else(|| wanted.clone());
            let document = errand.ways.documents.fetch_address(errand, &address).await?;
            waiting.push((wanted, document));
        }
    }
    Ok(files)
}

fn compile(main: &str, files: BTreeMap<String, Arc<Document>>) -> Result<DescriptorPool, protox::Error> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Fetched(files));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(main)?;
    Ok(compiler.descriptor_pool())
}

/// The method of a service; the errors say which there are.
pub(super) fn method(
    errand: &Errand<'_>,
    pool: &DescriptorPool,
    service: &str,
    method: &str,
) -> Result<MethodDescriptor, Failure> {
    let Some(found) = pool.get_service_by_name(service) else {
        let known: Vec<_> = pool.services().map(|service| service.full_name().to_owned()).collect();
        let why = format!("service.name: there is no {service:?}; expected one of {}", known.join(", "));
        return Err(errand.failure(kind::CONFIGURATION, &why));
    };
    let method_found = found.methods().find(|known| known.name() == method);
    let method_found = method_found.ok_or_else(|| {
        let known: Vec<_> = found.methods().map(|method| method.name().to_owned()).collect();
        let why = format!("method: {service} has no {method:?}; expected one of {}", known.join(", "));
        errand.failure(kind::CONFIGURATION, &why)
    })?;
    if method_found.is_client_streaming() {
        let why = format!("method: {method} takes a stream of messages; only methods that take one can be called");
        return Err(errand.failure(kind::CONFIGURATION, &why));
    }
    Ok(method_found)
}
