//! Pipelines of policies as layers of `tower`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aftercommit::adapters::tower::PolicyLayer;
use aftercommit::clock::fixed;
use aftercommit::error::PolicyError;
use aftercommit::resilience::{BreakerSettings, BulkheadSettings, Pipeline, RetrySettings, State};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

fn gateway() -> Pipeline {
    Pipeline::named("gateway")
        .retry(RetrySettings::new().attempts(3).backoff(fixed(Duration::ZERO)))
        .circuit_breaker(BreakerSettings::new().last(10).minimum_calls(6))
        .bulkhead(BulkheadSettings::new(1))
        .build()
        .expect("legal")
}

#[tokio::test]
async fn a_service_is_called_through_the_policies_of_its_layer() {
    let gateway = gateway();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let mut service =
        ServiceBuilder::new().layer(PolicyLayer::new(&gateway)).service(service_fn(move |order: String| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                if number < 2 { Err::<String, BoxError>("down".into()) } else { Ok(order) }
            }
        }));
    let answer = service.ready().await.expect("ready").call("order".to_owned()).await;
    assert_eq!(answer.ok().as_deref(), Some("order"));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn services_of_one_layer_share_its_breaker_and_a_refusal_is_their_error() {
    let gateway = gateway();
    let layer = PolicyLayer::new(&gateway);
    let of = |layer: &PolicyLayer| {
        ServiceBuilder::new()
            .layer(layer.clone())
            .service(service_fn(async |order: u32| Err::<u32, BoxError>(order.to_string().into())))
    };
    let (mut one, mut other) = (of(&layer), of(&layer));
    assert_eq!(one.ready().await.expect("ready").call(1).await.expect_err("it is down").to_string(), "1");
    assert_eq!(other.ready().await.expect("ready").call(2).await.expect_err("it is down").to_string(), "2");
    assert_eq!(gateway.breaker("gateway").expect("it has one").state(), State::Open);
    let refused = one.ready().await.expect("ready").call(3).await.expect_err("open");
    assert!(matches!(refused.downcast_ref::<PolicyError>(), Some(PolicyError::CircuitOpen { .. })));
}
