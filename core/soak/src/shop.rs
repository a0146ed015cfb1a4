//! A life of the shop: it publishes, works off, parks, replays, pauses and accounts, until it is killed or told to end.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aftercommit::bus::Replay;
use aftercommit::error::BoxError;
use aftercommit::prelude::*;
use aftercommit::store::{Retention, Store};

use crate::account::{self, PLACED};
use crate::listeners::{self, LANES, LISTENERS, Placed, SHOPS, Trouble};
use crate::options::Life;
use crate::report::{Line, Sample};

/// Publishers wait while a listener is so far behind.
const MOST_BEHIND: u64 = 4_000;

/// How long what everybody has done stays in the log.
const KEPT: Duration = Duration::from_secs(5);

pub(crate) fn run(life: &Life) -> ExitCode {
    fastrand::seed(life.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.map_err(BoxError::from).and_then(|runtime| runtime.block_on(live(life)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Line::Wrong(format!("the shop ended with an error: {error}")));
            ExitCode::FAILURE
        }
    }
}

/// One line in one write, so that a kill cuts none in two.
fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    // A parent that is gone hears nothing.
    let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
}

async fn live(life: &Life) -> Result<(), BoxError> {
    let store = life.store.open(&life.folder.join("store"))?;
    let trouble = Trouble::one_in(if life.last { 0 } else { 12 });
    let builder = Bus::builder().shared_store(store.clone()).state(trouble).listeners(listeners::all());
    let bus = builder.retention(Retention::keep_for(KEPT)).start().await?;
    for (lane, standing) in (0..).zip(account::standing(&bus)?) {
        say(&Line::Found { lane, placed: standing.placed });
    }
    match life.last {
        true => finish(&bus, &store).await,
        false => business(bus, life.rate).await,
    }
}

/// Until the parent closes the standard input, if it does not kill.
async fn business(bus: Bus, rate: u64) -> Result<(), BoxError> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        heard.store(true, Ordering::Relaxed);
    });
    let behind = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        tasks.spawn(publish(
            bus.clone(),
            lane,
            Duration::from_micros(1_000_000 * u64::from(LANES) / rate),
            stop.clone(),
            behind.clone(),
        ));
        tasks.spawn(account_on(bus.clone(), lane, stop.clone()));
    }
    tasks.spawn(operate(bus.clone(), stop.clone()));
    tasks.spawn(sample_on(bus.clone(), stop.clone(), behind));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    bus.shutdown(Duration::from_secs(30)).await?;
    Ok(())
}

async fn publish(
    bus: Bus,
    lane: u32,
    pause: Duration,
    stop: Arc<AtomicBool>,
    behind: Arc<AtomicU64>,
) -> Result<(), BoxError> {
    let note = "n".repeat(160);
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        if behind.load(Ordering::Relaxed) > MOST_BEHIND {
            continue;
        }
        let placed = bus.transaction(async |tx| {
            let order = PLACED.get(tx, &lane)?;
            PLACED.set(tx, &lane, order + 1)?;
            let order = order as u64;
            tx.publish(Placed { lane, shop: order % SHOPS, order, note: note.clone() })?;
            Ok::<_, Error>(order + 1)
        });
        match placed.await {
            Ok(done) => say(&Line::Acknowledged { lane, placed: done.value }),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn account_on(bus: Bus, lane: u32, stop: Arc<AtomicBool>) -> Result<(), BoxError> {
    while !stop.load(Ordering::Relaxed) {
        if !account::account(&bus, lane).await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Replays what is parked, and pauses a listener now and then.
async fn operate(bus: Bus, stop: Arc<AtomicBool>) -> Result<(), BoxError> {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let listener = LISTENERS[fastrand::usize(..LISTENERS.len())];
        bus.pause(listener);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..60))).await;
        bus.resume(listener);
        for listener in LISTENERS {
            bus.dead_letters(listener).replay(Replay::all().in_flight(4)).await?;
        }
    }
    Ok(())
}

async fn sample_on(bus: Bus, stop: Arc<AtomicBool>, behind: Arc<AtomicU64>) -> Result<(), BoxError> {
    while !stop.load(Ordering::Relaxed) {
        let sample = sample(&bus).await?;
        behind.store(sample.behind, Ordering::Relaxed);
        say(&Line::Sample(sample));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    Ok(())
}

async fn sample(bus: &Bus) -> Result<Sample, Error> {
    let lanes = account::standing(bus)?;
    Ok(Sample {
        placed: lanes.iter().map(|lane| lane.placed).sum(),
        accounted: lanes.iter().map(|lane| lane.accounted).sum(),
        parked: bus.parked().await?.len() as u64,
        behind: bus.lags().await?.iter().map(|lag| lag.behind).max().unwrap_or(0),
        store: bus.store_size().unwrap_or(0),
        memory: memory(),
    })
}

/// How many bytes of memory this process holds, where the system says so.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// The last life: everything is worked off, accounted for and audited, and the store is read through.
async fn finish(bus: &Bus, store: &Arc<dyn Store>) -> Result<(), BoxError> {
    bus.idle().await;
    for listener in LISTENERS {
        bus.dead_letters(listener).replay(Replay::all()).await?;
    }
    bus.idle().await;
    for lane in 0..LANES {
        while account::account(bus, lane).await? {}
    }
    say(&Line::Sample(sample(bus).await?));
    for wrong in account::audit(bus).await? {
        say(&Line::Wrong(wrong));
    }
    if let Some(store) = store.as_embedded().cloned() {
        let report = tokio::task::spawn_blocking(move || store.verify()).await??;
        if !report.is_whole() {
            say(&Line::Wrong(format!("the store is damaged: {report}")));
        }
    }
    bus.shutdown(Duration::from_secs(30)).await?;
    say(&Line::Audited);
    Ok(())
}
