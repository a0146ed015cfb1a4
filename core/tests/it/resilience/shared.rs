//! Circuit breakers of several processes over one board.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aftercommit::bus::StoreBoard;
use aftercommit::error::BoxError;
use aftercommit::prelude::*;
use aftercommit::resilience::{
    BreakerBoard, BreakerSettings, CircuitBreaker, Happened, MemoryBoard, PolicyEvent, Post, SharedBreaker,
    SharedSettings, State,
};
use aftercommit::testing::MovedClock;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Heard, secs};

struct Fleet {
    clock: MovedClock,
    nodes: Vec<SharedBreaker>,
}

impl Fleet {
    /// So many processes that have heard of each other.
    async fn of(count: usize) -> Self {
        let (clock, board) = (MovedClock::default(), MemoryBoard::default());
        let nodes = (0..count).map(|number| node(number, &clock, board.clone())).collect();
        let fleet = Self { clock, nodes };
        fleet.talk().await;
        fleet
    }

    /// Everybody tells everybody, two times, so that each has heard what the others said.
    async fn talk(&self) {
        for node in self.nodes.iter().chain(&self.nodes) {
            node.exchange().await.expect("the board is there");
        }
    }

    fn states(&self) -> Vec<State> {
        self.nodes.iter().map(|node| node.breaker().state()).collect()
    }
}

fn node(number: usize, clock: &MovedClock, board: impl BreakerBoard) -> SharedBreaker {
    let settings = BreakerSettings::new().last(4).minimum_calls(2).trials(2).open_for(secs(5));
    let breaker = CircuitBreaker::on_clock("gateway", settings, Arc::new(clock.clone())).expect("legal");
    SharedBreaker::new(breaker, board, SharedSettings::new(format!("shop-{number}"))).expect("legal")
}

fn calls(node: &SharedBreaker, failed: bool) {
    for _ in 0..2 {
        let permit = node.breaker().permit().expect("it lets the call through");
        if failed { permit.failed() } else { permit.succeeded() }
    }
}

const OPEN: State = State::Open;
const CLOSED: State = State::Closed;

#[tokio::test]
async fn one_process_with_a_bad_network_opens_its_own_breaker_and_no_other() {
    for count in [2, 3, 10] {
        let fleet = Fleet::of(count).await;
        calls(&fleet.nodes[0], true);
        for _ in 0..5 {
            fleet.talk().await;
            fleet.clock.advance(secs(1));
        }
        assert_eq!(fleet.states()[0], OPEN);
        assert!(fleet.states()[1..].iter().all(|state| *state == CLOSED), "of {count}");
    }
}

#[tokio::test]
async fn when_most_have_opened_the_others_open_before_they_fail() {
    let fleet = Fleet::of(3).await;
    let heard = Heard::default();
    fleet.nodes[2].breaker().hear(heard.told());
    calls(&fleet.nodes[0], true);
    calls(&fleet.nodes[1], true);
    fleet.talk().await;
    assert_eq!(fleet.states(), [OPEN; 3]);
    assert_eq!(fleet.nodes[2].breaker().look().totals.calls, 0, "it paid for nothing");
    assert_eq!(heard.take(), [Happened::Outvoted { open: 2, of: 3 }, Happened::Moved { from: CLOSED, to: OPEN }]);
    let half = Fleet::of(4).await;
    calls(&half.nodes[0], true);
    calls(&half.nodes[1], true);
    half.talk().await;
    assert_eq!(half.states(), [OPEN, OPEN, CLOSED, CLOSED], "half of them are not most of them");
}

/// Two that opened by their own outcomes, and one that followed: it must not count as a third witness, or they would hold each
/// other open.
#[tokio::test]
async fn who_followed_the_others_goes_by_its_own_trials_and_is_no_witness() {
    let fleet = Fleet::of(3).await;
    calls(&fleet.nodes[0], true);
    calls(&fleet.nodes[1], true);
    fleet.talk().await;
    fleet.clock.advance(secs(5));
    calls(&fleet.nodes[2], false);
    assert_eq!(fleet.states(), [OPEN, OPEN, CLOSED], "its trials succeeded");
    fleet.talk().await;
    assert_eq!(fleet.states(), [OPEN, OPEN, CLOSED], "what the others saw before is no news");
    calls(&fleet.nodes[0], false);
    fleet.talk().await;
    assert_eq!(fleet.states(), [CLOSED, OPEN, CLOSED], "one alone opens nobody");
    fleet.clock.advance(secs(1));
    calls(&fleet.nodes[0], true);
    fleet.talk().await;
    assert_eq!(fleet.states()[0], OPEN);
    assert_eq!(fleet.states()[2], CLOSED, "the other has seen nothing new");
    calls(&fleet.nodes[1], true);
    fleet.talk().await;
    assert_eq!(fleet.states()[2], OPEN, "its trials failed, which is new");
}

#[tokio::test]
async fn the_dead_have_no_vote() {
    let fleet = Fleet::of(5).await;
    calls(&fleet.nodes[0], true);
    calls(&fleet.nodes[1], true);
    fleet.talk().await;
    assert_eq!(fleet.states()[2], CLOSED, "2 of 5");
    fleet.clock.advance(secs(30));
    for node in &fleet.nodes[..3] {
        node.exchange().await.expect("the board is there");
    }
    fleet.nodes[2].exchange().await.expect("the board is there");
    assert_eq!(fleet.states()[2], OPEN, "2 of the 3 that are alive");
}

/// A board that may be out of reach.
struct Reachable(MemoryBoard, Arc<AtomicBool>);

impl BreakerBoard for Reachable {
    fn post(&self, post: Post) -> BoxFuture<'_, Result<(), BoxError>> {
        if self.1.load(Ordering::SeqCst) { self.0.post(post) } else { async { Err("no route".into()) }.boxed() }
    }

    fn posts<'a>(&'a self, breaker: &'a str) -> BoxFuture<'a, Result<Vec<Post>, BoxError>> {
        self.0.posts(breaker)
    }
}

#[tokio::test]
async fn while_the_board_is_out_of_reach_each_goes_by_its_own_outcomes() {
    let (clock, board) = (MovedClock::default(), MemoryBoard::default());
    let reached = Arc::new(AtomicBool::new(false));
    let cut_off = node(0, &clock, Reachable(board.clone(), reached.clone()));
    let others = [node(1, &clock, board.clone()), node(2, &clock, board)];
    for other in &others {
        calls(other, true);
        other.exchange().await.expect("the board is there");
    }
    assert!(cut_off.exchange().await.is_err());
    assert_eq!(cut_off.breaker().state(), CLOSED);
    let running = cut_off.clone().run(secs(1));
    tokio::pin!(running);
    assert!((&mut running).now_or_never().is_none());
    reached.store(true, Ordering::SeqCst);
    clock.advance(secs(1));
    assert!((&mut running).now_or_never().is_none());
    assert_eq!(cut_off.breaker().state(), OPEN, "it hears them again");
}

#[test]
fn one_process_may_not_be_let_open_all() {
    let breaker = || CircuitBreaker::new("gateway", BreakerSettings::new()).expect("legal");
    let refused = |settings| SharedBreaker::new(breaker(), MemoryBoard::default(), settings).is_err();
    assert!(refused(SharedSettings::new("a").at_least(1)));
    assert!(refused(SharedSettings::new("a").share(1.0)));
    assert!(refused(SharedSettings::new("")));
    assert!(refused(SharedSettings::new("a").alive_for(secs(0))));
}

#[tokio::test]
async fn who_is_disabled_while_the_others_open_it_stays_disabled() {
    let fleet = Fleet::of(3).await;
    let breaker = fleet.nodes[2].breaker().clone();
    fleet.nodes[2].breaker().hear(Arc::new(move |event: &PolicyEvent| {
        if matches!(event.what, Happened::Outvoted { .. }) {
            breaker.disable();
        }
    }));
    calls(&fleet.nodes[0], true);
    calls(&fleet.nodes[1], true);
    fleet.talk().await;
    assert_eq!(fleet.states(), [OPEN, OPEN, State::Disabled]);
}

/// A process: its own bus over the store that all have, and its own breaker.
async fn process(
    number: usize,
    store: &Arc<dyn aftercommit::store::Store>,
    clock: &MovedClock,
) -> (Bus, SharedBreaker) {
    let store = Arc::new(crate::locks::Shared(store.clone()));
    let bus = Bus::builder().shared_store(store).clock(clock.clone()).start().await.expect("a bus");
    let shared = node(number, clock, StoreBoard::new(&bus, "shop.breakers"));
    (bus, shared)
}

async fn talk(nodes: &[&SharedBreaker]) {
    for node in nodes.iter().chain(nodes) {
        node.exchange().await.expect("the board is there");
    }
}

crate::on_embedded_stores! {
    async fn over_one_store_a_bad_network_of_one_bus_opens_no_breaker_of_the_other_and_most_of_them_open_all(home: &dyn Home) {
        let (store, clock) = (home.open(), MovedClock::default());
        let ((bus, first), (other_bus, second)) = (process(0, &store, &clock).await, process(1, &store, &clock).await);
        talk(&[&first, &second]).await;
        calls(&first, true);
        for _ in 0..3 {
            talk(&[&first, &second]).await;
            clock.advance(secs(1));
        }
        let states = || [first.breaker().state(), second.breaker().state()];
        assert_eq!(states(), [OPEN, CLOSED], "its own network may be what is bad");
        // A third, which has seen no call yet; two who see failures are not one bad network.
        let (third_bus, third) = process(2, &store, &clock).await;
        calls(&second, true);
        talk(&[&first, &second, &third]).await;
        assert_eq!(third.breaker().state(), OPEN);
        assert_eq!(third.breaker().look().totals.calls, 0, "it paid for nothing");
        // What is posted outlives the buses, as it is in the store; who is gone has no vote, and is forgotten in the end.
        drop((bus, other_bus, third_bus));
        assert!(first.exchange().await.is_err(), "its bus is gone");
        let (_bus, again) = process(2, &store, &clock).await;
        talk(&[&again]).await;
        assert_eq!(again.breaker().state(), OPEN, "it comes back to what it left");
        clock.advance(secs(86_400));
        let (bus, fourth) = process(3, &store, &clock).await;
        talk(&[&fourth]).await;
        assert_eq!(fourth.breaker().state(), CLOSED);
        let board = StoreBoard::new(&bus, "shop.breakers");
        let nodes: Vec<String> = board.posts("gateway").await.expect("read").into_iter().map(|post| post.node).collect();
        assert_eq!(nodes, ["shop-3"], "what is a day old is gone");
    }
}
