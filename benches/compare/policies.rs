//! A call that succeeds, through each policy and through all five: beside those who do the same.
//!
//! `cargo bench --bench policies` in `benches/compare`; `-- breaker` for one group.
#![allow(missing_docs)]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use aftercommit::error::PolicyError;
use aftercommit::resilience::{
    BreakerSettings, BulkheadSettings, KeyedRateLimiter, Pipeline, PipelineBuilder, RateSettings, RetrySettings,
};
use backon::Retryable;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use failsafe::CircuitBreaker as _;
use futures::FutureExt;
use governor::{Quota, RateLimiter};
use recloser::{AsyncRecloser, Recloser};
use tower::{Layer, Service, service_fn};

const MANY: u32 = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);

/// What is called: it succeeds without waiting.
async fn work() -> Result<u64, PolicyError> {
    Ok(black_box(7))
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, builder: PipelineBuilder) {
    let pipeline = builder.build().expect("legal");
    each(group, name, || pipeline.call(work));
}

/// Measures futures that do not wait; checks each answer.
fn each<F: Future<Output = Result<u64, E>>, E>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    call: impl Fn() -> F,
) {
    group.bench_function(name, |bencher| {
        bencher.iter(|| match call().now_or_never() {
            Some(Ok(answer)) => answer,
            _ => panic!("it succeeds at once"),
        });
    });
}

fn named() -> PipelineBuilder {
    Pipeline::named("bench")
}

fn rate() -> RateSettings {
    RateSettings::new(MANY, SECOND)
}

fn quota() -> Quota {
    Quota::per_second(NonZeroU32::MAX)
}

fn recloser() -> Recloser {
    Recloser::custom().error_rate(0.5).closed_len(100).half_open_len(10).open_wait(SECOND).build()
}

/// Measures a tower service, whose futures may be boxed.
fn service<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, runtime: &tokio::runtime::Runtime, mut service: S)
where
    S: Service<u64, Response = u64>,
{
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                std::future::poll_fn(|context| service.poll_ready(context)).await.ok().expect("ready");
                service.call(black_box(7)).await.ok().expect("it succeeds")
            })
        });
    });
}

fn inner() -> impl Service<u64, Response = u64, Error = tower::BoxError, Future: Send> + Clone + Send + 'static {
    service_fn(async |answer: u64| Ok::<_, tower::BoxError>(answer))
}

fn policies(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();

    let mut group = criterion.benchmark_group("nothing");
    each(&mut group, "the call alone", work);
    service(&mut group, "a tower service, with its runtime", &runtime, inner());
    group.finish();

    let mut group = criterion.benchmark_group("breaker");
    ours(&mut group, "aftercommit", named().circuit_breaker(BreakerSettings::new()));
    let within = BreakerSettings::new().within(10 * SECOND);
    ours(&mut group, "aftercommit, outcomes of a time", named().circuit_breaker(within));
    let slow = BreakerSettings::new().slow_calls(4 * SECOND, 100.0);
    ours(&mut group, "aftercommit, slow calls too", named().circuit_breaker(slow));
    let sync = named().circuit_breaker(BreakerSettings::new()).build().expect("legal");
    group.bench_function("aftercommit, sync", |bencher| {
        bencher.iter(|| sync.call_blocking(|| Ok::<u64, PolicyError>(black_box(7))));
    });
    let sync = recloser();
    group.bench_function("recloser, sync", |bencher| {
        bencher.iter(|| sync.call(|| Ok::<u64, ()>(black_box(7))).ok());
    });
    let reclosing = AsyncRecloser::from(recloser());
    each(&mut group, "recloser", || reclosing.call(work()));
    let failsafe = failsafe::Config::new().build();
    group.bench_function("failsafe, sync", |bencher| {
        bencher.iter(|| failsafe.call(|| Ok::<u64, ()>(black_box(7))).ok());
    });
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .build();
    service(&mut group, "tower-resilience, with its runtime", &runtime, layer.expect("a configuration").layer(inner()));
    group.finish();

    let mut group = criterion.benchmark_group("rate limiter");
    ours(&mut group, "aftercommit", named().rate_limiter(rate()));
    let governor = RateLimiter::direct(quota());
    each(&mut group, "governor", || async {
        governor.check().map_err(|_| ())?;
        work().await.map_err(|_| ())
    });
    let keyed = KeyedRateLimiter::new("bench", rate()).expect("legal");
    group
        .bench_function("aftercommit, keyed", |bencher| bencher.iter(|| assert!(keyed.try_acquire(black_box(&7_u64)))));
    let keyed = RateLimiter::keyed(quota());
    group.bench_function("governor, keyed", |bencher| {
        bencher.iter(|| assert!(keyed.check_key(black_box(&7_u64)).is_ok()));
    });
    group.finish();

    let mut group = criterion.benchmark_group("bulkhead");
    ours(&mut group, "aftercommit", named().bulkhead(BulkheadSettings::new(10)));
    let semaphore = tokio::sync::Semaphore::new(10);
    each(&mut group, "tokio's semaphore", || async {
        let _inside = semaphore.acquire().await.map_err(|_| ())?;
        work().await.map_err(|_| ())
    });
    each(&mut group, "tokio's semaphore, tried", || async {
        let _inside = semaphore.try_acquire().map_err(|_| ())?;
        work().await.map_err(|_| ())
    });
    let layer = tower_resilience_bulkhead::BulkheadLayer::builder().max_concurrent_calls(10).build();
    service(&mut group, "tower-resilience, with its runtime", &runtime, layer.expect("a configuration").layer(inner()));
    group.finish();

    let mut group = criterion.benchmark_group("time limiter");
    ours(&mut group, "aftercommit", named().time_limiter(SECOND));
    each(&mut group, "tokio's timeout", || async {
        tokio::time::timeout(SECOND, work()).await.map_err(|_| ())?.map_err(|_| ())
    });
    let layer = tower_resilience_timelimiter::TimeLimiterLayer::builder().timeout_duration(SECOND).build();
    service(&mut group, "tower-resilience, with its runtime", &runtime, layer.layer(inner()));
    group.finish();

    let mut group = criterion.benchmark_group("retry");
    ours(&mut group, "aftercommit", named().retry(RetrySettings::new()));
    each(&mut group, "backon", || async { work.retry(backon::ExponentialBuilder::default()).await });
    group.finish();

    let mut group = criterion.benchmark_group("all five");
    let five = || {
        let four = named().retry(RetrySettings::new()).rate_limiter(rate()).time_limiter(SECOND);
        four.bulkhead(BulkheadSettings::new(10))
    };
    ours(&mut group, "aftercommit", five().circuit_breaker(BreakerSettings::new()));
    let slow = BreakerSettings::new().slow_calls(4 * SECOND, 100.0);
    ours(&mut group, "aftercommit, slow calls too", five().circuit_breaker(slow));
    let reclosing = AsyncRecloser::from(recloser());
    each(&mut group, "recloser, governor, tokio's semaphore and timeout, by hand", || async {
        let through = async {
            governor.check().map_err(|_| ())?;
            let limited = tokio::time::timeout(SECOND, async {
                let _inside = semaphore.acquire().await.map_err(|_| ())?;
                work().await.map_err(|_| ())
            });
            limited.await.map_err(|_| ())?
        };
        reclosing.call(through).await.map_err(|_| ())
    });
    group.finish();
}

criterion_group!(benches, policies);
criterion_main!(benches);
