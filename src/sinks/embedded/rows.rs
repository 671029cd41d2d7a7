//! From batches to rows of tables.

use super::StoreOptions;
use super::schema::{Generation, Statements};
use crate::sinks::ids::OutputIds;
use crate::sinks::json::push_list;
use crate::sinks::newest::Newest;
use crate::sinks::{Batch, Rejected, by_position};
use dataflows::event::{Event, ItemId, Time};
use dataflows::lists::Lists;
use dataflows::rows::{PopularList, RecommendationKey, SequenceKey};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Result};

/// Writes rows; knows nothing of transactions.
pub(super) struct RowWriter {
    statements: Statements,
    log: u64,
    behaviors: Vec<String>,
    model: Option<String>,
    ids: OutputIds,
    recent: Newest<()>,
    recommendations: Newest<Scalars>,
}

#[derive(Clone, Copy)]
struct Scalars {
    last_reward: i64,
    from_model: u32,
}

impl RowWriter {
    pub(super) fn new(generation: Generation, options: &StoreOptions) -> RowWriter {
        RowWriter {
            statements: Statements::new(generation),
            log: options.run.log,
            behaviors: options.run.behaviors.clone(),
            model: options.run.model.clone(),
            ids: options.run.ids.clone(),
            recent: Newest::new(),
            recommendations: Newest::new(),
        }
    }

    /// Writes the rows of `batch`, without the lists, sequences and recommendations before `durable`, and the events that
    /// `is_stored` names, which are there.
    /// What is the newest per user waits for [`RowWriter::write_newest`]. Returns how many rows that were.
    pub(super) fn write(
        &mut self,
        connection: &Connection,
        batch: &Batch,
        durable: Time,
        is_stored: impl Fn(&Event) -> bool,
    ) -> Result<usize> {
        self.write_records(connection, &batch.records, is_stored)?;
        self.write_rejected(connection, &batch.rejected)?;
        let popular = &batch.popular[batch.popular.partition_point(|list| list.window_end < durable)..];
        self.write_popular(connection, popular)?;
        let recommendations = self.write_recommendations(connection, &batch.recommendations, durable)?;
        let recent = self.keep_recent(&batch.recent, durable);
        Ok(batch.records.len() + batch.rejected.len() + popular.len() + recommendations + recent)
    }

    /// Writes what is the newest per user.
    pub(super) fn write_newest(&mut self, connection: &Connection) -> Result<()> {
        let mut statement = connection.prepare_cached(&self.statements.recent)?;
        self.recent.drain(|user, time, (), items| {
            let row = [integer(user), integer(time), text(items)];
            execute(&mut statement, row)
        })?;
        let mut statement = connection.prepare_cached(&self.statements.recommendation_latest)?;
        let model = model(&self.model);
        self.recommendations.drain(|user, time, scalars, items| {
            execute(&mut statement, recommendation(user, time, scalars, items, model))
        })
    }

    /// Forgets what [`RowWriter::write_newest`] would write.
    pub(super) fn forget_newest(&mut self) {
        (self.recent, self.recommendations) = (Newest::new(), Newest::new());
    }

    /// From here on, writes to that generation's tables.
    pub(super) fn set_generation(&mut self, generation: Generation) {
        self.statements = Statements::new(generation);
    }

    /// Replaces the newest list.
    pub(super) fn write_popular_latest(&self, connection: &Connection, list: Option<&PopularList>) -> Result<()> {
        connection.prepare_cached(&self.statements.clear_popular_latest)?.execute([])?;
        let mut statement = connection.prepare_cached(&self.statements.popular_latest)?;
        if let Some(list) = list {
            for (rank, item, count) in self.ranked(list) {
                let row = [integer(rank), integer(item), integer(count), integer(list.window_end)];
                execute(&mut statement, row)?;
            }
        }
        Ok(())
    }

    /// Deletes the records from logical time `first` on, and all rejected ones, which have no time.
    pub(super) fn clear_beyond(&self, connection: &Connection, first: Time) -> Result<()> {
        connection.execute(&self.statements.clear_records, [first.cast_signed()])?;
        connection.execute(&self.statements.clear_rejected, []).map(drop)
    }

    fn write_records(
        &self,
        connection: &Connection,
        events: &[Event],
        is_stored: impl Fn(&Event) -> bool,
    ) -> Result<()> {
        let mut statement = connection.prepare_cached(&self.statements.record)?;
        for event in by_position(events, |event| event.position).into_iter().filter(|event| !is_stored(event)) {
            let row = [
                integer(self.ids.logged_user(event.user)),
                integer(self.ids.logged_item(event.item)),
                text(self.behaviors[usize::from(event.behavior.0)].as_bytes()),
                integer(event.time),
                integer(event.logical),
                integer(u64::from(event.late)),
                integer(self.log),
                integer(u64::from(event.position.partition())),
                integer(event.position.offset()),
            ];
            execute(&mut statement, row)?;
        }
        Ok(())
    }

    fn write_rejected(&self, connection: &Connection, rejected: &[Rejected]) -> Result<()> {
        let mut statement = connection.prepare_cached(&self.statements.rejected)?;
        for rejected in by_position(rejected, |rejected| rejected.position) {
            let row = [
                integer(self.log),
                integer(u64::from(rejected.position.partition())),
                integer(rejected.position.offset()),
                text(rejected.reason.name().as_bytes()),
                ValueRef::Blob(&rejected.record),
            ];
            execute(&mut statement, row)?;
        }
        Ok(())
    }

    fn write_popular(&self, connection: &Connection, lists: &[PopularList]) -> Result<()> {
        let mut statement = connection.prepare_cached(&self.statements.popular)?;
        for list in lists {
            for (rank, item, count) in self.ranked(list) {
                let row = [integer(list.window_end), integer(rank), integer(item), integer(count)];
                execute(&mut statement, row)?;
            }
        }
        Ok(())
    }

    fn write_recommendations(
        &mut self,
        connection: &Connection,
        rows: &Lists<RecommendationKey>,
        durable: Time,
    ) -> Result<usize> {
        let first = rows.keys().partition_point(|key| key.time < durable);
        let mut statement = connection.prepare_cached(&self.statements.recommendation)?;
        for i in first..rows.len() {
            let (key, items) = rows.row(i);
            let ids = &self.ids;
            let Some(user) = ids.key_user(key.user) else { continue };
            let scalars = Scalars { last_reward: key.last_reward, from_model: key.from_model };
            let items = self.recommendations.push(user, key.time, scalars, |out| push_items(out, items, ids));
            execute(&mut statement, recommendation(user, key.time, scalars, items, model(&self.model)))?;
        }
        Ok(rows.len() - first)
    }

    fn keep_recent(&mut self, rows: &Lists<SequenceKey>, durable: Time) -> usize {
        let first = rows.keys().partition_point(|key| key.time < durable);
        for i in first..rows.len() {
            let (key, items) = rows.row(i);
            if let Some(user) = self.ids.key_user(key.user) {
                self.recent.push(user, key.time, (), |out| push_items(out, items, &self.ids));
            }
        }
        rows.len() - first
    }

    /// Rank from 1, item and count.
    fn ranked(&self, list: &PopularList) -> impl Iterator<Item = (u64, u64, u64)> {
        let items = list.items.iter().filter_map(|&(item, count)| Some((self.ids.listed_item(item)?, count)));
        (1..).zip(items).map(|(rank, (item, count))| (rank, item, count))
    }
}

fn push_items(out: &mut Vec<u8>, items: &[ItemId], ids: &OutputIds) {
    push_list(out, items.iter().filter_map(|&item| ids.listed_item(item)));
}

fn recommendation<'a>(
    user: u64,
    time: Time,
    scalars: Scalars,
    items: &'a [u8],
    model: ValueRef<'a>,
) -> [ValueRef<'a>; 6] {
    let last_reward = ValueRef::Integer(scalars.last_reward);
    [integer(user), integer(time), text(items), last_reward, integer(u64::from(scalars.from_model)), model]
}

fn model(model: &Option<String>) -> ValueRef<'_> {
    model.as_ref().map_or(ValueRef::Null, |model| ValueRef::Text(model.as_bytes()))
}

/// Ids, times, counts and offsets are all below 2^63 (contract, section 1).
fn integer(n: u64) -> ValueRef<'static> {
    ValueRef::Integer(n.cast_signed())
}

fn text(utf8: &[u8]) -> ValueRef<'_> {
    ValueRef::Text(utf8)
}

fn execute<const N: usize>(statement: &mut CachedStatement<'_>, row: [ValueRef<'_>; N]) -> Result<()> {
    for (i, value) in row.into_iter().enumerate() {
        statement.raw_bind_parameter(i + 1, ToSqlOutput::Borrowed(value))?;
    }
    statement.raw_execute().map(drop)
}
