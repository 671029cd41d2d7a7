//! Whose collections these are, and how they are made ours.

use super::command::Store;
use super::error::MongoError;
use super::meta::{Meta, Status, Writer};
use super::schema::{self, RESULTS, SCHEMA};
use crate::sinks::identity::{Holding, OtherPipeline, Pipeline, RunIdentity};
use dataflows::event::Time;
use mongodb::bson::{Binary, rawdoc};
use std::hash::{BuildHasher, RandomState};

/// How often to begin again when another writer opens the database at the same time.
const ATTEMPTS: usize = 5;

/// A database that is ours to write.
pub(super) struct Opened {
    pub(super) writer: Writer,
    /// Rows with T below it are there.
    pub(super) frontier: Time,
    /// Rows with T below it may be there.
    pub(super) reached: Time,
    pub(super) finished: bool,
    /// Whether there may be documents.
    pub(super) is_new: bool,
}

/// What is to be done with the collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// They are to be made.
    Create,
    /// Go on with what is there.
    Continue,
    /// Drop them, then make them.
    Purge,
    Refuse,
}

fn plan(found: Option<&Meta>, run: &RunIdentity) -> Plan {
    let Some(found) = found else {
        return if run.other_pipeline == OtherPipeline::Purge { Plan::Purge } else { Plan::Create };
    };
    let is_ours = found.pipeline.fingerprint == run.pipeline.fingerprint;
    match run.other_pipeline {
        OtherPipeline::Purge => Plan::Purge,
        // Half of it may be gone, and this run asks for what the purge was to make room for.
        _ if is_ours && found.status == Status::Purging => Plan::Purge,
        _ if is_ours => Plan::Continue,
        _ => Plan::Refuse,
    }
}

/// Takes the database over, and makes what is missing in it.
///
/// `session`: the one that transactions will be in.
pub(super) async fn open(store: &Store, run: &RunIdentity, session: Option<&Binary>) -> Result<Opened, MongoError> {
    for _ in 0..ATTEMPTS {
        if let Some(opened) = take_over(store, run, session).await? {
            schema::create_indexes(store).await?;
            return Ok(opened);
        }
    }
    Err(MongoError::Contended(store.place.clone()))
}

/// Looks at the collections and changes nothing. `pipeline`: the one that is to write them, if that is known.
pub(super) async fn inspect(store: &Store, pipeline: Option<&Pipeline>) -> Result<Holding, MongoError> {
    let place = store.place.clone();
    let found = Meta::read(store).await?;
    Meta::check_rights(store).await?;
    match found {
        None => check_empty(store).await.map(|()| Holding::Nothing),
        Some(found) if found.schema > SCHEMA => {
            Err(MongoError::NewerSchema { place, found: found.schema, known: SCHEMA })
        }
        Some(found) => match pipeline.filter(|pipeline| pipeline.fingerprint != found.pipeline.fingerprint) {
            Some(pipeline) => {
                Err(MongoError::OtherPipeline { place, difference: pipeline.difference(&found.pipeline) })
            }
            None => Ok(Holding::Results(found.frontier)),
        },
    }
}

/// Without our meta, documents in collections of our names are of others.
async fn check_empty(store: &Store) -> Result<(), MongoError> {
    for collection in RESULTS {
        if !store.find(None, collection, rawdoc! {}, rawdoc! { "_id": 1 }).await?.is_empty() {
            return Err(MongoError::NotOurs { place: store.place.clone(), collection });
        }
    }
    Ok(())
}

/// `None` if another writer came between.
async fn take_over(store: &Store, run: &RunIdentity, session: Option<&Binary>) -> Result<Option<Opened>, MongoError> {
    let found = Meta::read(store).await?;
    // Any number that no other run has: a map's random keys are fresh from the operating system.
    let token = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let writer = Writer { token, epoch: run.epoch, session: session.cloned() };
    let plan = plan(found.as_ref(), run);
    check(store, found.as_ref(), &writer, plan, run)?;
    let before = found.as_ref().map(|found| found.writer.token.as_str());
    if let Some(found) = &found {
        found.writer.end_session(store).await;
    }
    let fresh = |status| Meta {
        schema: SCHEMA,
        pipeline: run.pipeline.clone(),
        status,
        frontier: 0,
        reached: 0,
        writer: writer.clone(),
    };
    let (meta, is_taken) = match (plan, &found) {
        (Plan::Continue, Some(found)) => {
            let is_whole = found.status == Status::Finished && found.frontier == Time::MAX;
            let status = if is_whole { Status::Finished } else { Status::Unfinished };
            let writer = Writer { epoch: run.epoch.max(found.writer.epoch), ..writer.clone() };
            let meta = Meta { status, writer, ..found.clone() };
            let is_taken = meta.renew(store, &found.writer.token).await?;
            // What the last writer had on its way may have arrived until now, and have moved them.
            let now = Meta::read(store).await?.unwrap_or_else(|| meta.clone());
            (Meta { frontier: now.frontier, reached: now.reached, ..meta }, is_taken)
        }
        (Plan::Purge, _) => {
            if !fresh(Status::Purging).replace(store, before).await? {
                return Ok(None);
            }
            for collection in RESULTS {
                schema::drop(store, collection).await?;
            }
            let meta = fresh(Status::Unfinished);
            let is_taken = meta.replace(store, Some(&writer.token)).await?;
            (meta, is_taken)
        }
        _ => {
            check_empty(store).await?;
            let meta = fresh(Status::Unfinished);
            let is_taken = meta.replace(store, None).await?;
            (meta, is_taken)
        }
    };
    let is_new = plan != Plan::Continue;
    let finished = !is_new && found.is_some_and(|found| found.status == Status::Finished);
    Ok(is_taken.then_some(Opened { writer, frontier: meta.frontier, reached: meta.reached, finished, is_new }))
}

/// Refuses what may not be taken over.
fn check(
    store: &Store,
    found: Option<&Meta>,
    writer: &Writer,
    plan: Plan,
    run: &RunIdentity,
) -> Result<(), MongoError> {
    let Some(found) = found else { return Ok(()) };
    let place = store.place.clone();
    if found.schema > SCHEMA {
        return Err(MongoError::NewerSchema { place, found: found.schema, known: SCHEMA });
    }
    if plan == Plan::Refuse {
        let difference = run.pipeline.difference(&found.pipeline);
        return Err(match run.other_pipeline {
            OtherPipeline::NewGeneration => MongoError::NewGeneration { place, difference },
            _ => MongoError::OtherPipeline { place, difference },
        });
    }
    // Epochs are counted by a state directory. A purge may come with a new one, and says that the old one is done with.
    let is_later = found.writer.epoch.zip(writer.epoch).is_some_and(|(found, own)| found > own);
    if is_later && plan != Plan::Purge {
        return Err(writer.fenced(store, found.writer.epoch));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(other_pipeline: OtherPipeline) -> RunIdentity {
        RunIdentity {
            pipeline: Pipeline { fingerprint: "ours".into(), parts: serde_json::Map::new() },
            epoch: None,
            log: 1,
            behaviors: Vec::new(),
            model: None,
            tick: dataflows::time::Steps::new(1).expect("a length"),
            slide: 1,
            ids: Default::default(),
            other_pipeline,
        }
    }

    fn found(fingerprint: &str, status: Status) -> Option<Meta> {
        let pipeline = Pipeline { fingerprint: fingerprint.into(), parts: serde_json::Map::new() };
        let writer = Writer { token: "w".into(), epoch: None, session: None };
        Some(Meta { schema: SCHEMA, pipeline, status, frontier: 0, reached: 0, writer })
    }

    #[test]
    fn plans() {
        use OtherPipeline::{NewGeneration, Purge, Refuse};
        let cases = [
            // What is there; then the plans for: refuse, new generation, purge.
            (None, [Plan::Create, Plan::Create, Plan::Purge]),
            (found("ours", Status::Unfinished), [Plan::Continue, Plan::Continue, Plan::Purge]),
            (found("ours", Status::Finished), [Plan::Continue, Plan::Continue, Plan::Purge]),
            (found("ours", Status::Purging), [Plan::Purge, Plan::Purge, Plan::Purge]),
            (found("other", Status::Finished), [Plan::Refuse, Plan::Refuse, Plan::Purge]),
            (found("other", Status::Purging), [Plan::Refuse, Plan::Refuse, Plan::Purge]),
        ];
        for (found, plans) in cases {
            for (choice, expected) in [Refuse, NewGeneration, Purge].into_iter().zip(plans) {
                assert_eq!(plan(found.as_ref(), &run(choice)), expected, "{found:?}, {choice:?}");
            }
        }
    }
}
