//! The threads that meet the other processes: one accepts, one dials each lower index, and one follows each that has come
//! in. They block; what they find out they send as [`Event`]s.

use super::error::io_text;
use super::handshake::{Hello, Message, ReadError, read_message_within, write_message};
use super::{Agreement, Cluster, ClusterError, liveness};
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the other side of a connection has for its greeting.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// Between attempts, and between looks at whether the meeting is over.
const PAUSE: Duration = Duration::from_millis(50);
/// Greetings at a time; more connections are closed, and ours come again.
const GREETINGS_MAX: usize = 64;

/// What the threads of a meeting find out.
pub(super) enum Event {
    /// A process was greeted, and agrees.
    Met(Met),
    /// It has met all others.
    Ready { index: usize, connection: u64 },
    /// Its connection ended.
    Gone { index: usize, connection: u64 },
    /// There is no point in waiting on.
    Stop(ClusterError),
}

/// A process that was greeted.
pub(super) struct Met {
    pub(super) index: usize,
    /// Tells its connections apart, should it come again.
    pub(super) connection: u64,
    pub(super) stream: TcpStream,
    /// What it wishes of all.
    pub(super) wishes: Vec<String>,
}

impl Met {
    /// Ends the connection with a reason; the other side may be gone already.
    pub(super) fn refuse(&self, reason: &str) {
        refuse(&self.stream, reason);
    }

    /// The stream, as it was before the greeting.
    pub(super) fn into_stream(self) -> io::Result<TcpStream> {
        self.stream.set_read_timeout(None)?;
        Ok(self.stream)
    }
}

fn refuse(mut stream: &TcpStream, reason: &str) {
    let said = write_message(&mut stream, &Message::Refuse(reason.to_owned()));
    if let Err(error) = said.and_then(|()| stream.shutdown(Shutdown::Write)) {
        tracing::debug!(%error, "a process that was refused did not wait for the reason");
    }
}

/// Why a dialled process was not met.
enum Trouble {
    /// It may be there later.
    Later(String),
    /// It is there, and won't have us.
    Never(ClusterError),
}

/// What the threads share.
pub(super) struct Meeting {
    pub(super) cluster: Cluster,
    pub(super) agreement: Agreement,
    events: Sender<Event>,
    over: AtomicBool,
    connections: AtomicU64,
    greetings: AtomicUsize,
    /// By index: why the last attempt to reach a process failed.
    troubles: Mutex<Vec<String>>,
}

impl Meeting {
    pub(super) fn new(cluster: Cluster, agreement: Agreement, events: Sender<Event>) -> Meeting {
        let troubles = Mutex::new(vec!["it has not connected".to_owned(); cluster.processes]);
        Meeting {
            cluster,
            agreement,
            events,
            over: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            greetings: AtomicUsize::new(0),
            troubles,
        }
    }

    /// Lets all threads end.
    pub(super) fn close(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// How the last attempt to reach `index` ended.
    pub(super) fn trouble(&self, index: usize) -> String {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)[index].clone()
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Fails only once nobody listens any more, when nothing matters.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn stop(&self, error: ClusterError) {
        self.send(Event::Stop(error));
    }

    /// Accepts connections until the meeting is over.
    pub(super) fn accept_all(self: &Arc<Self>, listener: &TcpListener) {
        if let Err(cause) = listener.set_nonblocking(true) {
            return self.stop(ClusterError::System { action: "prepare a socket", cause });
        }
        while !self.is_over() {
            match listener.accept() {
                Ok((stream, from)) => self.admit(stream, from),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => {
                    tracing::warn!(error = %io_text(&error), "cannot accept a connection; trying again");
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Greets a connection on a thread of its own, so that an idle one delays nobody.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr) {
        if self.greetings.fetch_add(1, Ordering::Relaxed) >= GREETINGS_MAX {
            self.greetings.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let meeting = Arc::clone(self);
        let spawned = thread::Builder::new().name("cluster:greet".to_owned()).spawn(move || {
            let met = meeting.greet(stream, from);
            meeting.greetings.fetch_sub(1, Ordering::Relaxed);
            if let Some(met) = met {
                meeting.follow(met);
            }
        });
        if let Err(error) = spawned {
            self.greetings.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(%error, "cannot start a thread for a connection");
        }
    }

    /// Hears who has connected and answers. `None` if it is nobody we wait for, or somebody we can't work with.
    fn greet(&self, stream: TcpStream, from: SocketAddr) -> Option<Met> {
        let prepared = stream.set_nonblocking(false).and_then(|()| liveness::configure(&stream));
        let heard = prepared.map_err(ReadError::Io).and_then(|()| read_message_within(&stream, GREETING_MAX));
        let theirs = match heard {
            Ok(Message::Hello(hello)) => hello,
            Ok(Message::Refuse(_) | Message::Ready) => return None,
            Err(ReadError::Version) => {
                // Our own header tells it the same.
                let _ = write_message(&mut &stream, &Message::Hello(self.hello(0)));
                self.stop(ClusterError::Version { address: from.to_string() });
                return None;
            }
            Err(error) => {
                tracing::warn!(%from, "ignored a connection that is not from eddyline: {}", error.text());
                return None;
            }
        };
        if let Some(reason) = self.unexpected(&theirs) {
            tracing::warn!(%from, "refused a process: {reason}");
            refuse(&stream, &reason);
            return None;
        }
        let ours = self.hello(theirs.index);
        if write_message(&mut &stream, &Message::Hello(ours.clone())).is_err() {
            return None;
        }
        if let Some(error) = ours.disagreement(&theirs) {
            self.stop(error);
            return None;
        }
        Some(self.met(theirs, stream))
    }

    /// Why a process that greets so has no business here.
    fn unexpected(&self, theirs: &Hello) -> Option<String> {
        let own = self.cluster.index;
        if theirs.to != own {
            return Some(format!("this is process {own}, not {}; do all have the same host file?", theirs.to));
        }
        let misplaced = theirs.index <= own || theirs.index >= theirs.processes;
        misplaced.then(|| format!("process {own} expects no connection from a process {}", theirs.index))
    }

    /// Tries to reach a process until it is ready, or there is no point in it.
    pub(super) fn dial(&self, to: usize) {
        while !self.is_over() {
            match self.reach(to) {
                Ok(met) => {
                    if self.follow(met) {
                        return;
                    }
                }
                Err(Trouble::Later(text)) => {
                    self.troubles.lock().unwrap_or_else(PoisonError::into_inner)[to] = text;
                }
                Err(Trouble::Never(error)) => return self.stop(error),
            }
            thread::sleep(PAUSE);
        }
    }

    fn reach(&self, to: usize) -> Result<Met, Trouble> {
        let address = self.cluster.addresses[to].clone();
        let stream = dial_once(&address).map_err(|error| Trouble::Later(io_text(&error)))?;
        let ours = self.hello(to);
        match write_message(&mut &stream, &Message::Hello(ours.clone())) {
            Err(cause) if cause.kind() == ErrorKind::InvalidInput => {
                return Err(Trouble::Never(ClusterError::System { action: "greet the other processes", cause }));
            }
            Err(error) => return Err(Trouble::Later(io_text(&error))),
            Ok(()) => {}
        }
        match read_message_within(&stream, GREETING_MAX) {
            Ok(Message::Hello(theirs)) if theirs.index == to => match ours.disagreement(&theirs) {
                Some(error) => Err(Trouble::Never(error)),
                None => Ok(self.met(theirs, stream)),
            },
            Ok(Message::Refuse(reason)) => Err(Trouble::Never(ClusterError::GaveUp { index: to, address, reason })),
            Ok(Message::Hello(_) | Message::Ready) => Err(Trouble::Later("its greeting makes no sense".to_owned())),
            Err(ReadError::Version) => Err(Trouble::Never(ClusterError::Version { address })),
            Err(error) => Err(Trouble::Later(error.text())),
        }
    }

    /// Waits for the peer's next word. True if that is `Ready`, after which the connection is timely's.
    fn follow(&self, met: Met) -> bool {
        let (index, connection) = (met.index, met.connection);
        let Ok(stream) = met.stream.try_clone() else { return false };
        self.send(Event::Met(met));
        match self.next_word(&stream) {
            Some(Message::Ready) => self.send(Event::Ready { index, connection }),
            Some(Message::Refuse(reason)) => {
                let address = self.cluster.addresses[index].clone();
                self.stop(ClusterError::GaveUp { index, address, reason });
            }
            Some(Message::Hello(_)) | None => {
                self.send(Event::Gone { index, connection });
                return false;
            }
        }
        true
    }

    /// The next message, whenever it comes; `None` if the connection or the meeting ends.
    fn next_word(&self, stream: &TcpStream) -> Option<Message> {
        stream.set_read_timeout(Some(PAUSE)).ok()?;
        while !self.is_over() {
            match stream.peek(&mut [0]) {
                Ok(0) => return None,
                Ok(_) => return read_message_within(stream, GREETING_MAX).ok(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn hello(&self, to: usize) -> Hello {
        Hello::new(&self.cluster, &self.agreement, to)
    }

    fn met(&self, theirs: Hello, stream: TcpStream) -> Met {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        Met { index: theirs.index, connection, stream, wishes: theirs.wishes }
    }
}

/// One attempt at each of the addresses that a name stands for; the last one's error.
fn dial_once(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name stands for no address");
    for socket_address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket_address, DIAL_MAX) {
            Ok(stream) => {
                liveness::configure(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
