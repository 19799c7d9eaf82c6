//! What a container has written and the host has not yet taken over.
//!
//! A bounded queue of numbered records. A record that has been sent never changes, so that it can be
//! sent again as it was; it goes when it is acknowledged. When the queue is full nobody reads the
//! container's pipes, and its writes block.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::proto::{Channel, Exit, OutputRecord};

/// Of one record, and of one read.
pub const MAX_RECORD_BYTES: usize = 32 << 10;
/// Of a container's records that were not acknowledged.
pub const MAX_BYTES: usize = 1 << 20;
/// From here on data that was not sent yet is joined, so that short writes do not cost the guest many
/// times their size in memory.
const JOIN_FROM_RECORDS: usize = 4096;
const MAX_RECORDS: usize = 16384;

/// What a reader gets.
#[derive(Debug, PartialEq)]
pub enum Next {
    Record(OutputRecord),
    /// The record with the exit was sent.
    End,
    /// Another reader has taken over.
    Superseded,
    /// The container was removed.
    Removed,
}

#[derive(Debug, Default)]
struct Queue {
    records: VecDeque<OutputRecord>,
    /// Of the newest record.
    last_sequence: u64,
    /// Of the newest record that a reader has got.
    last_sent: u64,
    bytes: usize,
    finished: bool,
    removed: bool,
    reader: u64,
}

#[derive(Debug, Default)]
pub struct OutputLog {
    queue: Mutex<Queue>,
    /// Something for readers.
    news: Notify,
    /// Something for whoever fills the queue.
    room: Notify,
}

impl OutputLog {
    /// How much may be pushed now; 0 when the queue is full.
    pub fn available(&self) -> usize {
        let queue = self.queue();
        if queue.removed {
            // Nobody will read it, but the writer must not hang.
            return MAX_RECORD_BYTES;
        }
        if queue.records.len() >= MAX_RECORDS {
            return 0;
        }
        MAX_BYTES.saturating_sub(queue.bytes).min(MAX_RECORD_BYTES)
    }

    /// Waits until something may be pushed.
    pub async fn wait_for_room(&self) {
        wait(&self.room, || (self.available() > 0).then_some(())).await;
    }

    /// `data` has at most as many bytes as are available.
    pub fn push(&self, channel: Channel, data: &[u8], time_ns: i64) {
        let mut queue = self.queue();
        if data.is_empty() || queue.finished || queue.removed {
            return;
        }
        queue.bytes += data.len();
        if !queue.join(channel, data) {
            queue.last_sequence += 1;
            let record = OutputRecord {
                sequence: queue.last_sequence,
                time_ns,
                channel: channel.into(),
                data: Bytes::copy_from_slice(data),
                exit: None,
            };
            queue.records.push_back(record);
        }
        drop(queue);
        self.news.notify_waiters();
    }

    /// The last record; later pushes are ignored.
    pub fn finish(&self, exit: Exit) {
        let mut queue = self.queue();
        if queue.finished {
            return;
        }
        queue.finished = true;
        queue.last_sequence += 1;
        let record = OutputRecord {
            sequence: queue.last_sequence,
            time_ns: exit.exited_at_ns,
            exit: Some(exit),
            ..OutputRecord::default()
        };
        queue.records.push_back(record);
        drop(queue);
        self.news.notify_waiters();
    }

    /// Drops what there is and sends readers away.
    pub fn remove(&self) {
        let mut queue = self.queue();
        queue.removed = true;
        queue.records.clear();
        queue.bytes = 0;
        drop(queue);
        self.news.notify_waiters();
        self.room.notify_waiters();
    }

    /// All records up to this one are not needed any more. Records that nobody has got stay.
    pub fn acknowledge(&self, sequence: u64) {
        let mut queue = self.queue();
        let sequence = sequence.min(queue.last_sent);
        while queue.records.front().is_some_and(|record| record.sequence <= sequence) {
            if let Some(record) = queue.records.pop_front() {
                queue.bytes -= record.data.len();
            }
        }
        drop(queue);
        self.room.notify_waiters();
    }

    /// Makes the caller the only reader; its number is to be given to `next`.
    pub fn open_reader(&self) -> u64 {
        let mut queue = self.queue();
        queue.reader += 1;
        let reader = queue.reader;
        drop(queue);
        self.news.notify_waiters();
        reader
    }

    /// The first record with a number above `after`, as soon as there is one.
    pub async fn next(&self, reader: u64, after: u64) -> Next {
        wait(&self.news, || self.try_next(reader, after)).await
    }

    fn try_next(&self, reader: u64, after: u64) -> Option<Next> {
        let mut queue = self.queue();
        if queue.removed {
            return Some(Next::Removed);
        }
        if queue.reader != reader {
            return Some(Next::Superseded);
        }
        let Some(first) = queue.records.front().map(|record| record.sequence) else {
            return queue.finished.then_some(Next::End);
        };
        // Sequence numbers have no gaps.
        let index = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let Some(record) = queue.records.get(index).cloned() else {
            return queue.finished.then_some(Next::End);
        };
        queue.last_sent = queue.last_sent.max(record.sequence);
        Some(Next::Record(record))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Appends to the newest record if the queue is long and nobody has got that one yet.
    fn join(&mut self, channel: Channel, data: &[u8]) -> bool {
        if self.records.len() < JOIN_FROM_RECORDS || self.last_sent == self.last_sequence {
            return false;
        }
        let Some(last) = self.records.back_mut() else {
            return false;
        };
        if last.channel != i32::from(channel) || last.data.len() + data.len() > MAX_RECORD_BYTES {
            return false;
        }
        let joined = std::mem::take(&mut last.data).try_into_mut();
        let mut joined = joined.unwrap_or_else(|shared| shared.as_ref().into());
        joined.extend_from_slice(data);
        last.data = joined.freeze();
        true
    }
}

/// Waits until `ready` gives something; asked again each time `notify` says so.
async fn wait<T>(notify: &Notify, ready: impl Fn() -> Option<T>) -> T {
    loop {
        let mut notified = std::pin::pin!(notify.notified());
        notified.as_mut().enable();
        if let Some(value) = ready() {
            return value;
        }
        notified.await;
    }
}

#[cfg(test)]
mod tests {
    // Test data is made to fit.
    #![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

    use super::*;

    /// A small generator, so that failures can be repeated.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }

    fn next(log: &OutputLog, reader: u64, after: u64) -> Option<Next> {
        log.try_next(reader, after)
    }

    #[test]
    fn everything_arrives_once_in_order_over_any_number_of_reconnects() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let log = OutputLog::default();
            let (mut written, mut received): ([Vec<u8>; 2], [Vec<u8>; 2]) = Default::default();
            let mut seen: Vec<OutputRecord> = Vec::new();
            let (mut reader, mut cursor, mut acknowledged) = (log.open_reader(), 0, 0);
            let mut finished = false;
            loop {
                match random.below(10) {
                    0..4 if !finished => {
                        let limit = log.available() as u64;
                        let length = random.below(limit.min(3000) + 1) as usize;
                        let channel = if random.below(3) == 0 {
                            Channel::Stderr
                        } else {
                            Channel::Stdout
                        };
                        let data: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
                        written[channel as usize].extend(&data);
                        log.push(channel, &data, random.below(1000) as i64);
                    }
                    4 if random.below(40) == 0 => {
                        log.finish(Exit {
                            code: 7,
                            ..Default::default()
                        });
                        finished = true;
                    }
                    5 => {
                        reader = log.open_reader();
                        cursor = acknowledged;
                    }
                    6 => {
                        acknowledged = random.below(cursor + 1).max(acknowledged);
                        log.acknowledge(acknowledged);
                    }
                    _ => match next(&log, reader, cursor) {
                        Some(Next::Record(record)) => {
                            assert_eq!(record.sequence, cursor + 1);
                            assert!(record.data.len() <= MAX_RECORD_BYTES);
                            cursor = record.sequence;
                            if let Some(earlier) = seen.get(cursor as usize - 1) {
                                assert_eq!(earlier, &record, "a repeated record is the same");
                            } else {
                                received[record.channel as usize].extend(record.data.as_ref());
                                seen.push(record);
                            }
                        }
                        Some(Next::End) => break,
                        other => assert_eq!(other, None),
                    },
                }
            }
            assert_eq!(written, received);
            assert_eq!(seen.last().unwrap().exit.as_ref().unwrap().code, 7);
            log.acknowledge(u64::MAX);
            assert_eq!(log.queue().bytes, 0);
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_until_something_is_acknowledged() {
        let log = OutputLog::default();
        let reader = log.open_reader();
        while log.available() > 0 {
            log.push(Channel::Stdout, &vec![1; log.available()], 0);
        }
        assert_eq!(log.queue().bytes, MAX_BYTES);
        // What nobody has got cannot be acknowledged.
        log.acknowledge(1);
        assert_eq!(log.available(), 0);
        assert!(matches!(next(&log, reader, 0), Some(Next::Record(_))));
        log.acknowledge(1);
        assert_eq!(log.available(), MAX_RECORD_BYTES);
    }

    #[test]
    fn many_short_writes_stay_cheap() {
        let log = OutputLog::default();
        let mut pushed = 0;
        while log.available() > 0 {
            log.push(Channel::Stdout, b"x", 0);
            pushed += 1;
        }
        assert_eq!(pushed, MAX_BYTES);
        assert!(log.queue().records.len() <= JOIN_FROM_RECORDS + MAX_BYTES / MAX_RECORD_BYTES + 1);
    }

    #[test]
    fn alternating_channels_end_at_the_record_limit() {
        let log = OutputLog::default();
        let mut pushed = 0;
        while log.available() > 0 {
            log.push(
                if pushed % 2 == 0 {
                    Channel::Stdout
                } else {
                    Channel::Stderr
                },
                b"x",
                0,
            );
            pushed += 1;
        }
        assert_eq!(pushed, MAX_RECORDS);
    }

    #[test]
    fn a_second_reader_ends_the_first_and_removal_both() {
        let log = OutputLog::default();
        let first = log.open_reader();
        let second = log.open_reader();
        assert_eq!(next(&log, first, 0), Some(Next::Superseded));
        assert_eq!(next(&log, second, 0), None);
        log.remove();
        assert_eq!(next(&log, second, 0), Some(Next::Removed));
        assert!(log.available() > 0);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let log = std::sync::Arc::new(OutputLog::default());
        let reader = log.open_reader();
        let writer = log.clone();
        tokio::spawn(async move { writer.push(Channel::Stderr, b"late", 5) });
        let Next::Record(record) = log.next(reader, 0).await else {
            panic!("no record")
        };
        assert_eq!((record.data.as_ref(), record.time_ns), (b"late".as_slice(), 5));
    }
}
