//! What can go wrong with Redis.

use crate::sinks::address::AddressError;
use std::io;
use std::time::Duration;

/// Why Redis can't be written. `place` is as in "Redis at db:6379/0", with the number of the database.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The address.
    #[error("cannot use the address of Redis: {0}")]
    Address(#[from] AddressError),
    /// The client could not be started.
    #[error("cannot start the client of Redis: {0}")]
    Runtime(#[source] io::Error),
    /// The run is to stop.
    #[error("stopped while Redis was in use")]
    Stopped,
    /// No connection.
    #[error("cannot reach {place}: {reason}; check that it runs there, and the address")]
    Unreachable {
        /// Where.
        place: String,
        /// What happened.
        reason: String,
    },
    /// No secure connection.
    #[error(
        "cannot connect to {place} by TLS: {reason}; name the CA with ?ca=FILE in its address, or write redis:// where \
         nobody can listen on the way"
    )]
    Tls {
        /// Where.
        place: String,
        /// What happened.
        reason: String,
    },
    /// Wrong user or password.
    #[error(
        "{place} refuses the login: {reason}; set user and password in its address, as in redis://user:password@host"
    )]
    Refused {
        /// Where.
        place: String,
        /// What the server says.
        reason: String,
    },
    /// There is no database of that number.
    #[error("{place} has no database of that number ({reason}); name another in its address, as in redis://host/0")]
    NoDatabase {
        /// Where.
        place: String,
        /// What the server says.
        reason: String,
    },
    /// The user lacks a right.
    #[error(
        "{place} does not allow the user what is needed ({reason}); grant it with: ACL SETUSER {user} ~{pattern} +@read +@write \
         +@scripting +@connection"
    )]
    Rights {
        /// Where.
        place: String,
        /// Who.
        user: String,
        /// The keys.
        pattern: String,
        /// What the server says.
        reason: String,
    },
    /// It is one of several that share the keys.
    #[error("{place} is part of a Redis Cluster, where keys can't change together; name a Redis that is not")]
    Cluster {
        /// Where.
        place: String,
    },
    /// A key with a name of ours holds something of another kind.
    #[error(
        "the key {key} of {place} is a {found} and not a {wanted}, so it is not Eddyline's; rename or delete it, or use another \
         output.redis_prefix"
    )]
    WrongType {
        /// Where.
        place: String,
        /// Which.
        key: String,
        /// What it is.
        found: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// There are keys that no run of this program has written.
    #[error(
        "the key {key} of {place} is there, and is not Eddyline's; run with --purge to delete all keys of such names, or use \
         another output.redis_prefix"
    )]
    ForeignKey {
        /// Where.
        place: String,
        /// One of them.
        key: String,
    },
    /// It holds the results of a pipeline with another fingerprint.
    #[error(
        "{place} holds the results of another pipeline ({difference}); run with --purge to delete them first, or use another \
         output.redis_prefix"
    )]
    OtherPipeline {
        /// Where.
        place: String,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// A new generation was asked for.
    #[error(
        "{place} holds the results of another pipeline ({difference}), and --new-generation cannot replace them: Redis has no \
         way to rename all keys at once; run with --purge to delete them first, or use another output.redis_prefix"
    )]
    NoGenerations {
        /// Where.
        place: String,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// It was written by a newer version of this program.
    #[error(
        "cannot write {place}: its keys have version {found}, and this program knows versions up to {known}; use the program \
         that wrote them, or another output.redis_prefix"
    )]
    NewerSchema {
        /// Where.
        place: String,
        /// Its version.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// A run of a later start holds it.
    #[error(
        "cannot write {place}: a later start of the pipeline has taken it over (epoch {theirs}; this one's is {ours}); if the \
         state directory was made anew, run with --purge"
    )]
    Fenced {
        /// Where.
        place: String,
        /// Its epoch.
        theirs: u64,
        /// This run's.
        ours: u64,
    },
    /// Another run has opened it since.
    #[error("stopped writing {place}: another run has taken it over")]
    TakenOver {
        /// Where.
        place: String,
    },
    /// It no longer holds what it had acknowledged.
    #[error(
        "{place} has lost results that it held ({detail}): it was emptied, or restarted from an older state; run again, and if \
         that is refused, with --purge"
    )]
    Lost {
        /// Where.
        place: String,
        /// What was found.
        detail: String,
    },
    /// The run ended at a frontier that an unfinished run before it had passed.
    #[error(
        "{place} stays unfinished: an earlier run had got further than this one; run without --until or to a later time, or \
         with --purge"
    )]
    EndedEarlier {
        /// Where.
        place: String,
    },
    /// No answer.
    #[error("{place} has not answered within {} s; check the server's load and the network", .limit.as_secs())]
    Silent {
        /// Where.
        place: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke.
    #[error("lost the connection to {place}: {reason}")]
    Broken {
        /// Where.
        place: String,
        /// What happened.
        reason: String,
    },
    /// Anything else that the server reports.
    #[error("cannot write {place}: {message}")]
    Server {
        /// Where.
        place: String,
        /// What the server says, its code first.
        message: String,
        /// Whether that passes by itself, or once somebody has made room.
        passes: bool,
    },
}

impl RedisError {
    /// Whether the same call, made again later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            RedisError::Unreachable { .. } | RedisError::Silent { .. } | RedisError::Broken { .. } => true,
            RedisError::Server { passes, .. } => *passes,
            _ => false,
        }
    }
}
