//! Everything a durable listener may say.

use std::time::Duration;

use aftercommit::error::BoxError;
use aftercommit::listener::{AckMode, Call, Followers, GivenUp, Sequence, StartAt, WhenFull};
use aftercommit::prelude::*;

#[derive(Event, Clone, serde::Serialize, serde::Deserialize)]
#[event(name = "shop.order-placed")]
struct OrderPlaced {
    #[event(key)]
    order: u64,
}

fn tell(event: &OrderPlaced, given_up: &GivenUp, _call: &mut Call<'_>) -> Result<(), BoxError> {
    println!("{} after {}: {}", event.order, given_up.attempts, given_up.error);
    Ok(())
}

#[listener(durable, id = "shop.everything",
    sequence = Unordered, concurrency = 8, look_ahead = 4096,
    redeliver(attempts = 5, backoff = linear(Duration::from_millis(10), Duration::from_millis(5)).jitter(0.1),
        within = Duration::from_secs(60), on = [std::io::Error, std::fmt::Error], when = |error| error.to_string() == "busy",
        never_on = [std::num::ParseIntError], stop_on = [std::str::Utf8Error], fallback = tell),
    park(followers = Pass, sequences = 10, length = 100, full = Discard),
    ack = CountOrTime(100, Duration::from_secs(1)), start = Beginning, time_limit = Duration::from_secs(5))]
async fn everything(_event: &OrderPlaced, _bus: Bus) -> Result<Decision, BoxError> {
    Ok(Decision::Done)
}

#[listener(durable, id = "shop.batch", batch(max = 10, linger = Duration::from_millis(5)))]
fn batch(events: &[Delivered<OrderPlaced>], _tx: &mut Tx) -> Result<(), Error> {
    let _ = events.iter().map(|one| (one.event.order, one.metadata.id, one.key.clone(), one.attempt)).count();
    Ok(())
}

#[listener(durable, id = "shop.batches", batch(max = 10))]
async fn batches(events: &[Delivered<OrderPlaced>]) {
    let _ = events.len();
}

#[listener(durable, id = "shop.by-hand", ack = aftercommit::listener::AckMode::ManualImmediate)]
fn by_hand(_event: &OrderPlaced, ack: Ack) {
    ack.done();
}

#[listener(durable, id = "shop.total", sequence = Total, concurrency = 1, ack = Batch, park(followers = Stop))]
fn total(_event: &OrderPlaced) -> Decision {
    Decision::skip("nothing to do")
}

fn main() {
    let all = listed![everything, batch, batches, by_hand, total];
    let asked = |index: usize| all[index].descriptor().durable.clone().expect("durable");
    let everything = asked(0);
    assert_eq!((everything.sequence, everything.concurrency, everything.look_ahead), (Sequence::Unordered, 8, 4096));
    assert_eq!((everything.redeliver.attempts, everything.redeliver.within), (5, Some(Duration::from_secs(60))));
    assert_eq!((everything.parking.followers, everything.parking.full), (Followers::Pass, WhenFull::Discard));
    assert_eq!((everything.ack, everything.start), (AckMode::CountOrTime(100, Duration::from_secs(1)), StartAt::Beginning));
    assert!(everything.has_fallback);
    assert_eq!(asked(1).batch.map(|batch| (batch.max, batch.linger)), Some((10, Duration::from_millis(5))));
    assert_eq!(asked(2).batch.map(|batch| (batch.max, batch.linger)), Some((10, Duration::ZERO)));
    assert_eq!(asked(3).ack, AckMode::ManualImmediate);
    assert_eq!((asked(4).sequence, asked(4).parking.followers), (Sequence::Total, Followers::Stop));
}
