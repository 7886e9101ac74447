//! The story: scenes in order, each told from what was read back from the running programs. What was expected and not
//! seen is remembered, and decides how the demo ends.

mod facts;
mod scenes;
mod screen;

use std::time::Duration;

use crate::world::World;
pub use screen::Screen;

/// Between two looks: short enough to seem at once, long enough to cost nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// A story under way.
pub struct Story {
    pub world: World,
    screen: Screen,
    missing: Vec<String>,
    pace: Pace,
}

/// How fast the story is told.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The least time from one scene's title to the next: what it takes to read the scene and to look at the pages.
    pub scene: Duration,
    /// How long a person may answer first, before the demo answers.
    pub person: Duration,
}

impl Story {
    pub fn new(world: World, screen: Screen, pace: Pace) -> Self {
        Self { world, screen, missing: Vec::new(), pace }
    }

    /// Tells it all. What was expected and not seen is the answer; none of it is told again.
    ///
    /// # Errors
    /// When a program ended by itself, so that going on makes no sense.
    pub async fn tell(&mut self) -> anyhow::Result<Vec<String>> {
        self.paced(Self::fleet_joins).await?;
        self.paced(Self::normal_running).await?;
        self.paced(Self::fault_is_found_and_acted_upon).await?;
        self.paced(Self::records_stay_or_go).await?;
        self.paced(Self::uplink_is_cut).await?;
        self.link_is_back().await?;
        self.command_arrived_once();
        Ok(std::mem::take(&mut self.missing))
    }

    /// Tells a scene, and lets it stand for as long as it takes to read.
    async fn paced(&mut self, scene: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let next = tokio::time::Instant::now() + self.pace.scene;
        scene(self).await?;
        tokio::time::sleep_until(next).await;
        self.world.check()
    }

    /// Looks until something is there, and says what was seen. `None`, and remembered, when it is not there within `limit`.
    async fn see<T>(
        &mut self,
        what: &str,
        limit: Duration,
        look: impl AsyncFn(&World) -> anyhow::Result<Option<(T, String)>>,
    ) -> anyhow::Result<Option<T>> {
        let waiting = self.screen.waiting(what);
        let begun = tokio::time::Instant::now();
        let reason = loop {
            let reason = match look(&self.world).await {
                Ok(Some((seen, words))) => {
                    drop(waiting);
                    self.screen.saw(&words);
                    return Ok(Some(seen));
                }
                Ok(None) => String::new(),
                // Not an end: a program that is busy or cut off answers later.
                Err(error) => format!(" ({error:#})"),
            };
            self.world.check()?;
            if begun.elapsed() > limit {
                break reason;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        drop(waiting);
        self.miss(format!("not seen within {} s: {what}{reason}", limit.as_secs()));
        Ok(None)
    }

    /// Says whether something that should hold does.
    fn check(&mut self, holds: bool, what: &str) {
        if holds {
            self.screen.saw(what);
        } else {
            self.miss(format!("does not hold: {what}"));
        }
    }

    fn miss(&mut self, what: String) {
        self.screen.missed(&what);
        self.missing.push(what);
    }
}
