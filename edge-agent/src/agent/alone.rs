//! The rooms of a node whose agent does not run, for a command that needs them once: the same store, documents, models, rules and ledger.

use std::{fs::File, sync::Arc, time::Duration};

use anyhow::Context as _;
use edge_core::engine::effect::Failure;
use models::catalog::Digests;
use serde_json::Value;

use super::{
    DIGESTS_FILE, Former, INDEXES_FOLDER,
    claim::{Claimant, claim},
    embedders, inference, judges, rollout,
};
use crate::{
    action::{self, Action},
    config::Config,
    memory::Memory,
    store::Store,
    workflow::{Rooms, Wanted, perform_wanted},
};

/// How long documents that were never read may take before the first question.
const INDEXED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// The rooms, as long as no agent has them.
pub(crate) struct Alone {
    _lock: File,
    store: Store,
    rooms: Rooms,
}

impl Alone {
    /// Opens the store and what lies beside it, and brings the documents' indexes in step with the bundle in force.
    ///
    /// # Errors
    /// When an agent has the data folder, or a room cannot be opened.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let lock = claim(&config.data_dir, Claimant::Command).await?;
        let store = Store::open(&config.store_path())?;
        let digests = Digests::kept_in(config.data_dir.join(DIGESTS_FILE));
        let former = Former::default();
        let embedders = embedders(config, &digests, &former)?;
        let inference = inference(config, &digests, &former);
        let memory = Memory::open_in(&config.data_dir.join(INDEXES_FOLDER), store.clone(), embedders);
        let memory = memory.judged_by(judges(config, &digests)?).within(config.memory.clone());
        let force = rollout::at_start(config, &store).await?;
        memory.set_content(force.content.clone());
        let mut status = memory.status();
        let ready = status.wait_for(|status| !status.is_busy);
        let ready = tokio::time::timeout(INDEXED_WITHIN, ready).await;
        ready
            .context("the documents are not indexed yet; an agent that runs goes on with it")?
            .context("the memory ended")?;
        // Nothing that is asked this way goes out.
        let nowhere = action::Broker {
            host: "127.0.0.1".to_owned(),
            port: 1883,
            login: None,
            tls: None,
            client_id: String::new(),
        };
        let action = Action::new(nowhere, config.calls());
        let policies = Arc::clone(&force.site.policies);
        let rooms = Rooms::new(inference, memory, action, policies, config.jurisdiction.clone());
        rooms.set_guards(Arc::clone(&force.site.guards));
        Ok(Self { _lock: lock, store, rooms })
    }

    /// Does what a person wants, as a running agent would.
    ///
    /// # Errors
    /// As the function has them.
    pub async fn perform(&self, wanted: Wanted) -> Result<Value, Failure> {
        perform_wanted(&self.rooms, &self.store, wanted).await
    }
}
