//! Processes played by threads, and strangers played by hand, over real sockets.
#![allow(clippy::unwrap_used)]

use super::super::handshake::{Hello, read_message_within};
use super::*;
use std::io::{Read, Write};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// The listeners of a cluster to be, bound to free ports, and its addresses.
struct Ports {
    listeners: Vec<Option<TcpListener>>,
    addresses: Vec<String>,
}

impl Ports {
    fn new(processes: usize) -> Ports {
        let listeners: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        Ports { listeners: listeners.into_iter().map(Some).collect(), addresses }
    }

    fn cluster(&self, index: usize) -> Cluster {
        let addresses = self.addresses.clone();
        Cluster { workers: 1, processes: addresses.len(), index, addresses, connect_timeout: LONG }
    }

    fn start(&mut self, index: usize) -> Process {
        let cluster = self.cluster(index);
        self.start_as(cluster, agreement("same"))
    }

    fn start_as(&mut self, cluster: Cluster, agreement: Agreement) -> Process {
        let listener = self.listeners[cluster.index].take().unwrap();
        Process(thread::spawn(move || connect_at(listener, &cluster, &agreement)))
    }

    fn dial(&self, index: usize) -> TcpStream {
        TcpStream::connect(&self.addresses[index]).unwrap()
    }

    /// Greets process `to` as process `index`, by hand; the answer is its greeting or its refusal.
    fn greet(&self, index: usize, to: usize) -> (TcpStream, Message) {
        let mut stream = self.dial(to);
        let hello = Hello::new(&self.cluster(index), &agreement("same"), to);
        write_message(&mut stream, &Message::Hello(hello)).unwrap();
        let answer = read_message_within(&stream, LONG).unwrap();
        (stream, answer)
    }
}

type Outcome = Result<Connected, ClusterError>;

struct Process(thread::JoinHandle<Outcome>);

impl Process {
    fn outcome(self) -> Outcome {
        self.0.join().unwrap()
    }

    fn error(self) -> String {
        self.outcome().err().unwrap().to_string()
    }
}

fn agreement(digest: &str) -> Agreement {
    Agreement { parts: vec![("configuration".to_owned(), digest.to_owned())], wishes: Vec::new() }
}

/// Checks that the sockets at [i][j] and [j][i] are the two ends of one connection, with nothing in it.
fn check_connected(processes: Vec<Process>) {
    let mut sockets: Vec<_> = processes.into_iter().map(|process| process.outcome().unwrap().sockets).collect();
    for (i, row) in sockets.iter_mut().enumerate() {
        for (j, socket) in row.iter_mut().enumerate() {
            assert_eq!(socket.is_none(), i == j);
            if let Some(socket) = socket {
                socket.write_all(&[i as u8, j as u8]).unwrap();
            }
        }
    }
    for (i, row) in sockets.iter_mut().enumerate() {
        for (j, socket) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let mut bytes = [0; 2];
            socket.as_mut().unwrap().read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [j as u8, i as u8]);
        }
    }
}

#[test]
fn processes_meet_whatever_the_order_of_their_start() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut ports = Ports::new(3);
        let mut processes: Vec<_> = order.into_iter().map(|index| (index, ports.start(index))).collect();
        processes.sort_by_key(|(index, _)| *index);
        check_connected(processes.into_iter().map(|(_, process)| process).collect());
    }
}

#[test]
fn all_hear_what_process_0_wishes_and_nobody_else() {
    let mut ports = Ports::new(3);
    let start = |index: usize| {
        let wishes = vec![format!("as process {index} says")];
        let cluster = ports.cluster(index);
        ports.start_as(cluster, Agreement { wishes, ..agreement("same") })
    };
    let processes = [0, 1, 2].map(start);
    for process in processes {
        assert_eq!(process.outcome().unwrap().wishes, ["as process 0 says"]);
    }
}

#[test]
fn strangers_delay_nobody() {
    let mut ports = Ports::new(2);
    let idle = ports.dial(0);
    let mut browser = ports.dial(0);
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut slow = ports.dial(0);
    slow.write_all(b"EDDYLI").unwrap();
    let mut huge = ports.dial(0);
    huge.write_all(b"EDDYLINE\x02\0\0\0\xff\xff\xff\x7f").unwrap();
    drop(ports.dial(0));
    let processes = vec![ports.start(0), ports.start(1)];
    check_connected(processes);
    drop((idle, browser, slow, huge));
}

#[test]
fn rubbish_delays_nobody() {
    let mut ports = Ports::new(2);
    let first = ports.start(0);
    let mut state = 7_u64;
    for length in 0..100 {
        let mut rubbish: Vec<u8> = if length % 2 == 0 { b"EDDYLINE\x02\0\0\0".to_vec() } else { Vec::new() };
        for _ in 0..length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            rubbish.push((state >> 56) as u8);
        }
        ports.dial(0).write_all(&rubbish).unwrap();
    }
    let second = ports.start(1);
    check_connected(vec![first, second]);
}

#[test]
fn a_missing_peer_is_named() {
    let mut ports = Ports::new(2);
    let brief = Duration::from_millis(200);
    let addresses = ports.addresses.clone();
    let waiting = ports.start_as(Cluster { connect_timeout: brief, ..ports.cluster(0) }, agreement("same"));
    let missing = format!(
        "process 1 at {} did not answer within 0.2 s (it has not connected); is it running with -p 1?",
        addresses[1]
    );
    assert_eq!(waiting.error(), missing);
    // Process 0 has let go of its port.
    let dialling = ports.start_as(Cluster { connect_timeout: brief, ..ports.cluster(1) }, agreement("same"));
    let missing = format!(
        "process 0 at {} did not answer within 0.2 s (Connection refused); is it running with -p 0?",
        addresses[0]
    );
    assert_eq!(dialling.error(), missing);
}

#[test]
fn something_else_on_a_peers_port_is_named() {
    let mut ports = Ports::new(2);
    let web = ports.listeners[0].take().unwrap();
    thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let cluster = Cluster { connect_timeout: Duration::from_millis(500), ..ports.cluster(1) };
    let error = ports.start_as(cluster, agreement("same")).error();
    assert!(error.contains("(what listens there is not eddyline: it does not greet as eddyline does)"), "{error}");
}

#[test]
fn all_hear_of_a_disagreement() {
    let mut ports = Ports::new(3);
    let [first, second] = [0, 1].map(|index| ports.start(index));
    let cluster = ports.cluster(2);
    let third = ports.start_as(cluster, agreement("other"));
    let errors = [first, second, third].map(Process::error);
    let about = |index| {
        format!(
            "processes {index} and 2 disagree on the configuration (same and other); \
             start all with the same flags and files"
        )
    };
    for error in &errors {
        assert!(error.ends_with(&about(0)) || error.ends_with(&about(1)), "{error}");
    }
}

#[test]
fn a_disagreement_of_two_is_told_in_the_same_words() {
    let mut ports = Ports::new(2);
    let first = ports.start(0);
    let cluster = Cluster { workers: 4, ..ports.cluster(1) };
    let second = ports.start_as(cluster, agreement("other"));
    let [first, second] = [first, second].map(Process::error);
    assert_eq!(first, second);
    assert!(first.contains("the number of workers (-w) (1 and 4), the configuration (same and other)"), "{first}");
}

#[test]
fn another_number_of_processes_is_a_disagreement() {
    let mut ports = Ports::new(3);
    let two = Cluster { processes: 2, addresses: ports.addresses[..2].to_vec(), ..ports.cluster(0) };
    let first = ports.start_as(two, agreement("same"));
    let last = ports.start(2);
    let told =
        "processes 0 and 2 disagree on the number of processes (-n) (2 and 3); start all with the same flags and files";
    assert_eq!([first.error(), last.error()], [told, told]);
}

#[test]
fn different_host_files_are_found_out() {
    let mut ports = Ports::new(3);
    let [mixed_up, mut others] = [ports.cluster(2), ports.cluster(2)];
    others.addresses.swap(0, 1);
    let _first =
        ports.start_as(Cluster { connect_timeout: Duration::from_secs(1), ..ports.cluster(0) }, agreement("same"));
    let _second =
        ports.start_as(Cluster { connect_timeout: Duration::from_secs(1), ..ports.cluster(1) }, agreement("same"));
    let error = ports.start_as(Cluster { addresses: others.addresses, ..mixed_up }, agreement("same")).error();
    assert!(error.contains("do all have the same host file?"), "{error}");
}

#[test]
fn a_second_process_of_one_index_is_refused_and_the_first_may_come_again() {
    let mut ports = Ports::new(3);
    let first = ports.start(0);
    let (early, answer) = ports.greet(1, 0);
    assert!(matches!(answer, Message::Hello(_)));
    let (again, answer) = ports.greet(1, 0);
    assert!(matches!(answer, Message::Hello(_)));
    let Message::Refuse(reason) = read_message_within(&again, LONG).unwrap() else { panic!("no refusal") };
    assert_eq!(reason, "another process is connected as process 1; was -p 1 given twice?");
    drop(early);
    // Until process 0 has noticed, the place is taken.
    while let Ok(Message::Refuse(_)) = read_message_within(&ports.greet(1, 0).0, Duration::from_millis(300)) {}
    let (second, third) = (ports.start(1), ports.start(2));
    check_connected(vec![first, second, third]);
}

#[test]
fn a_peer_that_goes_after_all_have_agreed_ends_the_start() {
    let mut ports = Ports::new(2);
    let first = ports.start(0);
    let (peer, _) = ports.greet(1, 0);
    assert_eq!(read_message_within(&peer, LONG).unwrap(), Message::Ready);
    drop(peer);
    let told = format!("process 1 at {} stopped while the run was starting", ports.addresses[1]);
    assert_eq!(first.error(), told);
}

#[test]
fn the_wrong_indices_are_refused() {
    let mut ports = Ports::new(3);
    let _first =
        ports.start_as(Cluster { connect_timeout: Duration::from_secs(1), ..ports.cluster(1) }, agreement("same"));
    for index in [0, 1] {
        let (_, answer) = ports.greet(index, 1);
        assert_eq!(answer, Message::Refuse(format!("process 1 expects no connection from a process {index}")));
    }
}

#[test]
fn another_protocol_version_is_told_to_both() {
    let mut ports = Ports::new(2);
    let first = ports.start(0);
    let mut future = ports.dial(0);
    future.write_all(b"EDDYLINE\x03\0\0\0\x02\0\0\0{}").unwrap();
    assert!(first.error().contains("runs another version of eddyline; start the same build everywhere"));
    let mut header = [0; 12];
    future.read_exact(&mut header).unwrap();
    assert_eq!(&header, b"EDDYLINE\x02\0\0\0");
}
