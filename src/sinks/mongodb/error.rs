//! What can go wrong with MongoDB.

use crate::secret::SecretError;
use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR};
use mongodb::error::{UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure};
use std::fmt;
use std::io;
use std::time::Duration;

/// Which database, of which servers: `HOST:PORT/DATABASE`. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The servers as the address names them, with commas.
    pub hosts: String,
    /// The database.
    pub database: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hosts, self.database)
    }
}

/// Why a MongoDB database can't be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum MongoError {
    /// The address can't be read. The driver's reasons may quote it, so they stand here only where it holds no password.
    #[error("cannot read the address of MongoDB: {0}; write mongodb://USER:PASSWORD@HOST:PORT/")]
    Address(String),
    /// The address is in a file that can't be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// MongoDB has no such names.
    #[error(
        "\"{0}\" cannot be the name of a MongoDB database: it must have 1 to 63 characters, and none of /\\. \"$*<>:|?"
    )]
    DatabaseName(String),
    /// A document may have 16 MB.
    #[error("consumed_max is {0}, but no more than {max} pairs fit one document of MongoDB", max = super::CONSUMED_MAX)]
    ConsumedMax(usize),
    /// A thread of the operating system could not be started.
    #[error("cannot start the threads that talk to MongoDB: {0}")]
    Thread(#[source] io::Error),
    /// No answer, or a connection that breaks.
    #[error("cannot reach MongoDB at {hosts}: {reason}")]
    Unreachable {
        /// The servers.
        hosts: String,
        /// What was seen, in the system's or the driver's words.
        reason: String,
    },
    /// User or password are wrong, or missing.
    #[error("MongoDB at {0} refuses the login; check user, password and authSource in its address")]
    Login(String),
    /// The user may not do that.
    #[error("MongoDB forbids its user to work on {place} ({reason}); grant it the role readWrite on that database")]
    Forbidden {
        /// The database.
        place: Place,
        /// The server's words.
        reason: String,
    },
    /// The results there are of a pipeline with another fingerprint.
    #[error(
        "the MongoDB database {place} holds the results of another pipeline ({difference}); run with --purge to delete \
         them first, or name another database"
    )]
    OtherPipeline {
        /// The database.
        place: Place,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// Several collections can't be replaced at once.
    #[error(
        "the MongoDB database {place} holds the results of another pipeline ({difference}), and --new-generation cannot \
         replace them: MongoDB renames one collection at a time; name another database and let its readers switch, or \
         run with --purge"
    )]
    NewGeneration {
        /// The database.
        place: Place,
        /// In what the two pipelines differ.
        difference: String,
    },
    /// There are documents and nothing that says whose.
    #[error(
        "the MongoDB database {place} has documents in {collection} that Eddyline did not write; name another database, \
         or run with --purge to delete them"
    )]
    NotOurs {
        /// The database.
        place: Place,
        /// The collection.
        collection: &'static str,
    },
    /// The collections were made by a newer version of this program.
    #[error(
        "the MongoDB database {place} has collections of version {found}, and this program knows versions up to {known}; \
         use the program that wrote them, or name another database"
    )]
    NewerSchema {
        /// The database.
        place: Place,
        /// Their version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// An index is in the way.
    #[error("the collection {collection} of MongoDB's {place} has an index {name} that {problem}; drop it")]
    Index {
        /// The database.
        place: Place,
        /// The collection.
        collection: &'static str,
        /// The index that is there.
        name: String,
        /// Why it can't stay.
        problem: String,
    },
    /// A pipeline with a greater epoch writes there.
    #[error(
        "stopped writing to MongoDB's {place}: a later run has taken it over (epoch {found}, this one is {own}); if that \
         is none, its state directory is lost, so run with --purge"
    )]
    Fenced {
        /// The database.
        place: Place,
        /// The greater epoch.
        found: u64,
        /// Ours.
        own: u64,
    },
    /// Another run has opened or purged the database since.
    #[error("stopped writing to MongoDB's {0}: another run has taken it over")]
    TakenOver(Place),
    /// The server takes no such document.
    #[error("MongoDB refuses the document {key} of {place}, collection {collection}: {reason}")]
    Refused {
        /// The database.
        place: Place,
        /// The collection.
        collection: &'static str,
        /// The document's `_id`, as MongoDB's shell writes it, or as near as can be.
        key: String,
        /// The server's words.
        reason: String,
    },
    /// A document of ours was changed by someone.
    #[error(
        "the document {key} of MongoDB's {place}, collection {collection}, is damaged: {detail}; delete the database's \
         collections and run again, or run with --purge"
    )]
    Damaged {
        /// The database.
        place: Place,
        /// The collection.
        collection: &'static str,
        /// The document's `_id`.
        key: String,
        /// What was found.
        detail: &'static str,
    },
    /// Someone else changes the same documents all the time.
    #[error("cannot write to MongoDB's {0}: another writer changes the same documents; is another run still going?")]
    Contended(Place),
    /// The run ended at a frontier that an unfinished run before it had passed.
    #[error(
        "MongoDB's {0} stays unfinished: an earlier run had got further than this one; run without --until or to a later \
         time, or with --purge"
    )]
    EndedEarlier(Place),
    /// The run has been told to stop.
    #[error("stopped writing to MongoDB's {0}")]
    Stopped(Place),
    /// Anything else that the server or the driver reports.
    #[error("cannot write to MongoDB's {place}: {reason}")]
    Server {
        /// The database.
        place: Place,
        /// The server's code, or 0.
        code: i32,
        /// Their words.
        reason: String,
        /// Whether it may pass.
        retryable: bool,
    },
}

/// Codes of the server for states that pass: no primary, a shutdown, no room on the disk, conflicts, time-outs, lack of
/// memory, and transactions that were given up.
const PASSING: [i32; 29] = [
    6, 7, 24, 50, 64, 89, 91, 112, 133, 134, 189, 225, 246, 251, 257, 262, 267, 290, 365, 462, 9001, 10058, 10107,
    11600, 11601, 11602, 13435, 13436, 14031,
];
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;

impl MongoError {
    /// Whether the same batch, written again later, may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            MongoError::Unreachable { .. } | MongoError::Contended(_) | MongoError::Thread(_) => true,
            MongoError::Server { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// What the driver's `error` means at `place`.
    pub(super) fn new(place: &Place, error: &Error) -> MongoError {
        let hosts = || place.hosts.clone();
        match &*error.kind {
            ErrorKind::Authentication { .. } => MongoError::Login(hosts()),
            ErrorKind::Io(source) => MongoError::Unreachable { hosts: hosts(), reason: source.to_string() },
            ErrorKind::ServerSelection { message, .. } | ErrorKind::ConnectionPoolCleared { message, .. } => {
                MongoError::Unreachable { hosts: hosts(), reason: selection_reason(message) }
            }
            ErrorKind::DnsResolve { message, .. } => {
                MongoError::Unreachable { hosts: hosts(), reason: message.clone() }
            }
            ErrorKind::Command(command) => {
                MongoError::from_code(place, command.code, &command.message, may_pass(error))
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(failure)) => {
                MongoError::from_code(place, failure.code, &failure.message, may_pass(error))
            }
            kind => {
                let (place, reason) = (place.clone(), one_line(&kind.to_string()));
                MongoError::Server { place, code: 0, reason, retryable: may_pass(error) }
            }
        }
    }

    /// What a code of the server means at `place`.
    pub(super) fn from_code(place: &Place, code: i32, message: &str, passes: bool) -> MongoError {
        let (place, reason) = (place.clone(), one_line(message));
        match code {
            AUTHENTICATION_FAILED => MongoError::Login(place.hosts),
            UNAUTHORIZED => MongoError::Forbidden { place, reason },
            _ => MongoError::Server { place, code, reason, retryable: passes || PASSING.contains(&code) },
        }
    }

    /// A server without TLS only closes the connection.
    pub(super) fn explain_tls(self, assumes_tls: bool) -> MongoError {
        match self {
            MongoError::Unreachable { hosts, reason } if assumes_tls => {
                let why = "TLS is used, since it is not on this machine; if it has none, add tls=false to its address";
                MongoError::Unreachable { hosts, reason: format!("{reason} ({why})") }
            }
            error => error,
        }
    }

    /// No answer within that time.
    pub(super) fn silent(place: &Place, waited: Duration) -> MongoError {
        let reason = format!("no answer within {} s", waited.as_secs());
        MongoError::Unreachable { hosts: place.hosts.clone(), reason }
    }
}

/// Whether the server or the driver says so.
fn may_pass(error: &Error) -> bool {
    let labels = [TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, RETRYABLE_WRITE_ERROR];
    labels.iter().any(|label| error.contains_label(label))
}

/// The driver tells of every server, each with an error in debugging form: the first of these is what a person needs.
fn selection_reason(message: &str) -> String {
    let first = message.split_once("Kind: ").map(|(_, rest)| rest.split(", labels:").next().unwrap_or(rest));
    match first {
        Some(reason) => one_line(reason.trim_start_matches("I/O error: ")),
        None => "none of its servers can be written to".to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { hosts: "db:27017".into(), database: "shop".into() }
    }

    #[test]
    fn errors_are_one_line() {
        let message = "Server selection timeout: No available servers. Topology: { Type: Single, Servers: [ { Address: \
                       127.0.0.1:1, Type: Unknown, Error: Kind: I/O error: Connection refused (os error 111), labels: \
                       {}, source: None, server response: None } ] }";
        assert_eq!(selection_reason(message), "Connection refused (os error 111)");
        assert_eq!(selection_reason("Server selection timeout"), "none of its servers can be written to");
        let error = MongoError::from_code(&place(), 13, "not authorized\non shop", false);
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn what_passes_is_tried_again() {
        for code in [112, 251, 10107, 13436, 91, 11600] {
            assert!(MongoError::from_code(&place(), code, "", false).is_retryable(), "{code}");
        }
        for code in [13, 18, 121, 20, 59] {
            assert!(!MongoError::from_code(&place(), code, "", false).is_retryable(), "{code}");
        }
        assert!(MongoError::from_code(&place(), 59, "", true).is_retryable());
        assert!(MongoError::silent(&place(), Duration::from_secs(60)).is_retryable());
    }
}
