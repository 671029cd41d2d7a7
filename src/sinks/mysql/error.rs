//! What can go wrong with MySQL.

use crate::sinks::address::AddressError;
use std::io;
use std::time::Duration;

/// Why MySQL can't be written. `database` is as in "the MySQL database flink at db:3306".
#[derive(Debug, thiserror::Error)]
pub enum MySqlError {
    /// The address.
    #[error("cannot use the address of MySQL: {0}")]
    Address(#[from] AddressError),
    /// The configuration has a behaviour that the table has no room for.
    #[error("cannot keep the behaviour {0:?} in MySQL: its column holds 16 characters; give it a shorter name")]
    LongBehavior(String),
    /// The client could not be started.
    #[error("cannot start the client of MySQL: {0}")]
    Runtime(#[source] io::Error),
    /// The run is to stop.
    #[error("stopped while MySQL was in use")]
    Stopped,
    /// No connection.
    #[error("cannot reach MySQL at {server}: {reason}; check that it runs there, and the address")]
    Unreachable {
        /// `host:port`.
        server: String,
        /// What happened.
        reason: String,
    },
    /// No secure connection.
    #[error(
        "cannot connect to MySQL at {server} by TLS: {reason}; name the CA with ?ssl-ca=FILE in its address, or say with \
         ?ssl-mode=disabled that nobody can listen on the way"
    )]
    Tls {
        /// `host:port`.
        server: String,
        /// What happened.
        reason: String,
    },
    /// Wrong user or password.
    #[error("MySQL at {server} refuses the user {user}: wrong user or password, or not allowed from this machine")]
    Refused {
        /// `host:port`.
        server: String,
        /// Who.
        user: String,
    },
    /// There is no such database.
    #[error(
        "MySQL at {server} has no database {database}, or hides it from the user {user}; make it with: CREATE DATABASE \
         `{database}` CHARACTER SET utf8mb4"
    )]
    NoDatabase {
        /// `host:port`.
        server: String,
        /// Who.
        user: String,
        /// Its name.
        database: String,
    },
    /// The user lacks a right.
    #[error(
        "the user {user} lacks a right in {database} ({message}); grant it with: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, \
         DROP, ALTER, INDEX ON `{name}`.* TO `{user}`"
    )]
    Rights {
        /// Where.
        database: String,
        /// The database's name.
        name: String,
        /// Who.
        user: String,
        /// What the server says.
        message: String,
    },
    /// A table is not as this program makes it.
    #[error("the table {table} of {database} has another shape ({difference}); migrate it with: {statements}")]
    Shape {
        /// Where.
        database: String,
        /// Which.
        table: String,
        /// In what it differs.
        difference: String,
        /// What makes it right.
        statements: String,
    },
    /// A table holds rows that no run of this program has written.
    #[error(
        "the table {table} of {database} holds rows that are not Eddyline's; run with --purge to delete them, or name \
         another database"
    )]
    ForeignRows {
        /// Where.
        database: String,
        /// Which.
        table: String,
    },
    /// It holds the results of a pipeline with another fingerprint.
    #[error(
        "{database} holds the results of another pipeline ({difference}); run with --new-generation to replace them once the \
         new ones are whole, or with --purge to delete them first, or name another database"
    )]
    OtherPipeline {
        /// Where.
        database: String,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// It was made by a newer version of this program.
    #[error(
        "cannot write {database}: its tables have version {found}, and this program knows versions up to {known}; use the \
         program that wrote them, or name another database"
    )]
    NewerSchema {
        /// Where.
        database: String,
        /// Its version.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// A run of a later start holds it.
    #[error(
        "cannot write {database}: a later start of the pipeline has taken it over (epoch {theirs}; this one's is {ours}); if \
         the state directory was made anew, run with --purge"
    )]
    Fenced {
        /// Where.
        database: String,
        /// Its epoch.
        theirs: u64,
        /// This run's.
        ours: u64,
    },
    /// Another run is opening it.
    #[error("cannot open {database}: another run is opening it; wait for that, then run again")]
    Busy {
        /// Where.
        database: String,
    },
    /// Another run has opened it since.
    #[error("stopped writing {database}: another run has taken it over")]
    TakenOver {
        /// Where.
        database: String,
    },
    /// It no longer holds what it had acknowledged.
    #[error(
        "{database} has lost results that it held ({detail}): it was emptied, or set back to an older state; run again, and if \
         that is refused, with --purge"
    )]
    Lost {
        /// Where.
        database: String,
        /// What was found.
        detail: String,
    },
    /// The run ended at a frontier that an unfinished run before it had passed.
    #[error(
        "{database} stays unfinished: an earlier run had got further than this one; run without --until or to a later time, \
         or with --purge"
    )]
    EndedEarlier {
        /// Where.
        database: String,
    },
    /// No answer.
    #[error("{database} has not answered within {} s; check the server's load, locks and network", .limit.as_secs())]
    Silent {
        /// Where.
        database: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke.
    #[error("lost the connection to {database}: {reason}")]
    Broken {
        /// Where.
        database: String,
        /// What happened.
        reason: String,
    },
    /// Anything else that the server reports.
    #[error("cannot write {table} of {database}: {message} (error {code})")]
    Server {
        /// Where.
        database: String,
        /// What was being written.
        table: String,
        /// MySQL's number for it.
        code: u16,
        /// What the server says.
        message: String,
    },
}

impl MySqlError {
    /// Whether the same call, made again later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            MySqlError::Unreachable { .. }
            | MySqlError::Busy { .. }
            | MySqlError::Silent { .. }
            | MySqlError::Broken { .. } => true,
            MySqlError::Server { code, .. } => passes(*code),
            _ => false,
        }
    }
}

/// Errors that pass by themselves, or once somebody has made room: the server's own numbers.
fn passes(code: u16) -> bool {
    const FULL: [u16; 4] = [1021, 1026, 1041, 1114]; // Disk, write error on it, memory, table.
    const BUSY: [u16; 8] = [1040, 1203, 1205, 1206, 1213, 1226, 1613, 3101]; // Connections, locks, deadlocks, quotas.
    const AWAY: [u16; 9] = [1053, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927]; // Shutdown, killed, network.
    const STANDBY: [u16; 3] = [1290, 1792, 1836]; // Read-only, until it is the primary again.
    [&FULL[..], &BUSY, &AWAY, &STANDBY].iter().any(|codes| codes.contains(&code))
}
