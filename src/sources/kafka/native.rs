//! What librdkafka offers and the `rdkafka` crate does not: a topic's id, the ends of many partitions in one request, the
//! offset of an end-of-partition event, and messages by the batch. All `unsafe` code of the sources is here.

use std::ffi::{CStr, CString, c_char};
use std::future::Future;
use std::pin::pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::config::Context;

/// A request that did not succeed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
}

/// A topic, as its cluster describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    /// The id that no other topic ever has; brokers before Kafka 2.8 give none.
    pub(crate) id: Option<[u8; 16]>,
    pub(crate) partitions: u32,
}

/// An end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Of the first record that is there.
    Begin,
    /// After the last record that a transaction does not hold back.
    Stable,
}

/// A queue of a client.
struct RawQueue(*mut sys::rd_kafka_queue_t);

impl Drop for RawQueue {
    fn drop(&mut self) {
        // SAFETY: the pointer is ours alone, and was made by librdkafka.
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

struct RawEvent(*mut sys::rd_kafka_event_t);

impl Drop for RawEvent {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_event_destroy(self.0) }
    }
}

struct RawOptions(*mut sys::rd_kafka_AdminOptions_t);

impl Drop for RawOptions {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) }
    }
}

struct RawPartitions(*mut sys::rd_kafka_topic_partition_list_t);

impl Drop for RawPartitions {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// Text of librdkafka's; empty for a null pointer.
///
/// # Safety
/// `text` is null or ends with a zero.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller says so.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn name(topic: &str) -> Result<CString, Failure> {
    let failure = |_| Failure { code: RDKafkaErrorCode::InvalidTopic, text: "its name holds a zero".to_owned() };
    CString::new(topic).map_err(failure)
}

/// Sends a request of the admin API and waits for its answer.
fn request<C: ClientContext>(
    client: &Client<C>,
    operation: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(&RawOptions, &RawQueue),
) -> Result<RawEvent, Failure> {
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` is alive as long as `client`.
    let (queue, options) =
        unsafe { (RawQueue(sys::rd_kafka_queue_new(rk)), RawOptions(sys::rd_kafka_AdminOptions_new(rk, operation))) };
    // SAFETY: without room for a message none is written; a timeout out of range leaves the default.
    unsafe { sys::rd_kafka_AdminOptions_set_request_timeout(options.0, milliseconds, ptr::null_mut(), 0) };
    send(&options, &queue);
    // A little more than librdkafka waits, so that its own reason is heard.
    // SAFETY: the queue is ours.
    let event = unsafe { sys::rd_kafka_queue_poll(queue.0, milliseconds.saturating_add(500)) };
    if event.is_null() {
        return Err(Failure { code: RDKafkaErrorCode::OperationTimedOut, text: "no answer in time".to_owned() });
    }
    let event = RawEvent(event);
    // SAFETY: the event is ours, and its text lives as long as it.
    let (error, reason) =
        unsafe { (sys::rd_kafka_event_error(event.0), text(sys::rd_kafka_event_error_string(event.0))) };
    match error {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(event),
        code => Err(Failure { code: code.into(), text: reason }),
    }
}

/// Describes `topic`.
pub(crate) fn describe<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<Topic, Failure> {
    let name = name(topic)?;
    let mut names = [name.as_ptr()];
    // SAFETY: `names` outlives the call, which copies them.
    let topics = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let event = request(client, operation, timeout, |options, queue| {
        // SAFETY: all four are alive; the request keeps copies.
        unsafe { sys::rd_kafka_DescribeTopics(client.native_ptr(), topics, options.0, queue.0) }
    });
    // SAFETY: it is ours, and the request has copied it.
    unsafe { sys::rd_kafka_TopicCollection_destroy(topics) };
    let event = event?;
    let mut count = 0;
    // SAFETY: the event is of this request; what it gives lives as long as it.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count == 0 {
            return Err(Failure { code: RDKafkaErrorCode::UnknownTopicOrPartition, text: "not described".to_owned() });
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            let (code, reason) = (sys::rd_kafka_error_code(error), text(sys::rd_kafka_error_string(error)));
            if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(Failure { code: code.into(), text: reason });
            }
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let (high, low) = match id.is_null() {
            true => (0, 0),
            false => (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)),
        };
        let id = (u128::from(high as u64) << 64 | u128::from(low as u64)).to_be_bytes();
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
        let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
        Ok(Topic { id: (id != [0; 16]).then_some(id), partitions })
    }
}

/// Asks the leaders of `partitions` for one of their ends; the answers are in the order of `partitions`.
pub(crate) fn ends<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partitions: std::ops::Range<u32>,
    end: End,
    timeout: Duration,
) -> Result<Vec<Result<u64, Failure>>, Failure> {
    let name = name(topic)?;
    let first = partitions.start;
    let spec = match end {
        End::Begin => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
        End::Stable => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
    };
    // SAFETY: the list is ours; librdkafka copies the name.
    let list = unsafe { RawPartitions(sys::rd_kafka_topic_partition_list_new(partitions.len() as i32)) };
    for partition in partitions.clone() {
        // SAFETY: the element that is added lives until the list changes.
        unsafe {
            (*sys::rd_kafka_topic_partition_list_add(list.0, name.as_ptr(), partition as i32)).offset = spec as i64
        };
    }
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let event = request(client, operation, timeout, |options, queue| {
        let level = sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
        // SAFETY: all are alive; an error is ours to destroy; the request keeps copies.
        unsafe {
            let error = sys::rd_kafka_AdminOptions_set_isolation_level(options.0, level);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            sys::rd_kafka_ListOffsets(client.native_ptr(), list.0, options.0, queue.0);
        }
    })?;
    let missing = || Failure { code: RDKafkaErrorCode::UnknownPartition, text: "not in the answer".to_owned() };
    let mut answers: Vec<Result<u64, Failure>> = partitions.map(|_| Err(missing())).collect();
    let mut count = 0;
    // SAFETY: the event is of this request; what it gives lives as long as it, and there are `count` of them.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.0);
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &mut count);
        for at in 0..count {
            let answer = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(at));
            let index =
                usize::try_from(answer.partition).ok().and_then(|partition| partition.checked_sub(first as usize));
            if let Some(place) = index.and_then(|index| answers.get_mut(index)) {
                *place = match (answer.err, u64::try_from(answer.offset)) {
                    (sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, Ok(offset)) => Ok(offset),
                    (sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, Err(_)) => Err(missing()),
                    (code, _) => Err(Failure { code: code.into(), text: text(sys::rd_kafka_err2str(code)) }),
                };
            }
        }
    }
    Ok(answers)
}

/// The cluster's id, if it has told one.
pub(crate) fn cluster_id<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Option<String> {
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the text is ours to free.
    unsafe {
        let id = sys::rd_kafka_clusterid(client.native_ptr(), milliseconds);
        let copy = text(id);
        if !id.is_null() {
            sys::rd_kafka_mem_free(client.native_ptr(), id.cast());
        }
        (!copy.is_empty()).then_some(copy)
    }
}

/// Hands on what waits in the main queue of a client that nobody polls: log lines and errors, which would pile up there.
pub(crate) fn drain<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client is alive; the queue is a reference of ours.
    let queue = unsafe { RawQueue(sys::rd_kafka_queue_get_main(client.native_ptr())) };
    loop {
        // SAFETY: the queue is alive.
        let event = unsafe { sys::rd_kafka_queue_poll(queue.0, 0) };
        if event.is_null() {
            return;
        }
        let event = RawEvent(event);
        let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is ours, and its texts live as long as it.
        unsafe {
            match sys::rd_kafka_event_type(event.0) {
                sys::RD_KAFKA_EVENT_LOG
                    if sys::rd_kafka_event_log(event.0, &mut facility, &mut message, &mut level) == 0 =>
                {
                    client.context().log(log_level(level), &text(facility), &text(message));
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    let code = RDKafkaErrorCode::from(sys::rd_kafka_event_error(event.0));
                    let reason = text(sys::rd_kafka_event_error_string(event.0));
                    client.context().error(rdkafka::error::KafkaError::Global(code), &reason);
                }
                _ => {}
            }
        }
    }
}

fn log_level(level: i32) -> RDKafkaLogLevel {
    match level {
        0..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// The messages of one partition, apart from those of others.
pub(super) struct PartitionQueue {
    queue: RawQueue,
    /// After the queue, which must not outlive it.
    consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for PartitionQueue {}

impl PartitionQueue {
    /// Has the messages of `partition` go to a queue of their own. Do so before the partition is assigned.
    pub(super) fn split(consumer: &Arc<BaseConsumer<Context>>, topic: &str, partition: u32) -> Option<PartitionQueue> {
        let name = CString::new(topic).ok()?;
        // SAFETY: the client is alive, and the queue is a reference of ours; forwarding to null is how splitting is told.
        unsafe {
            let queue =
                sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), name.as_ptr(), partition as i32);
            if queue.is_null() {
                return None;
            }
            sys::rd_kafka_queue_forward(queue, ptr::null_mut());
            Some(PartitionQueue { queue: RawQueue(queue), consumer: Arc::clone(consumer) })
        }
    }

    /// Takes up to `count` messages and events that are there, in order.
    pub(super) fn take(&self, count: usize) -> Batch {
        let mut messages = Vec::with_capacity(count);
        // SAFETY: there is room for `count` pointers, of which librdkafka fills as many as it says.
        unsafe {
            let taken = sys::rd_kafka_consume_batch_queue(self.queue.0, 0, messages.as_mut_ptr(), count);
            messages.set_len(usize::try_from(taken).unwrap_or(0));
        }
        messages.reverse();
        Batch { messages, _consumer: Arc::clone(&self.consumer) }
    }
}

/// Messages that were taken from a queue and not looked at yet, the next one last.
pub(super) struct Batch {
    messages: Vec<*mut sys::rd_kafka_message_t>,
    _consumer: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's messages may be destroyed by any thread.
unsafe impl Send for Batch {}

impl Batch {
    /// Whether all were looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

impl Iterator for Batch {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.messages.pop().map(Message)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// A message, or an event in its place.
pub(super) struct Message(*mut sys::rd_kafka_message_t);

impl Message {
    /// The offset; of an error, where it occurred, if that is known.
    pub(super) fn offset(&self) -> Option<u64> {
        // SAFETY: the message is ours.
        u64::try_from(unsafe { (*self.0).offset }).ok()
    }

    /// `None` for a message.
    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        // SAFETY: as above.
        let error = unsafe { (*self.0).err };
        (error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
    }

    /// The value, or an error's text.
    pub(super) fn payload(&self) -> Option<&[u8]> {
        // SAFETY: as above; the payload lives as long as the message and is `len` bytes long.
        unsafe {
            let message = &*self.0;
            (!message.payload.is_null()).then(|| std::slice::from_raw_parts(message.payload.cast(), message.len))
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_message_destroy(self.0) }
    }
}

/// Waits for an answer of `rdkafka`'s admin client, which completes its futures on a thread of its own.
pub(crate) fn wait<F: Future>(answer: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut answer = pin!(answer);
    loop {
        if let Poll::Ready(output) = answer.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
