//! Pipelines of policies as layers of `tower`.
//!
//! ```
//! use std::time::Duration;
//!
//! use aftercommit::adapters::tower::PolicyLayer;
//! use aftercommit::clock::fixed;
//! use aftercommit::resilience::{Pipeline, RetrySettings};
//! use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let gateway = Pipeline::named("gateway")
//!     .retry(RetrySettings::new().attempts(3).backoff(fixed(Duration::from_millis(1))))
//!     .time_limiter(Duration::from_secs(2))
//!     .build()?;
//! let mut service = ServiceBuilder::new()
//!     .layer(PolicyLayer::new(&gateway))
//!     .service(service_fn(async |order: u32| Ok::<_, BoxError>(order + 1)));
//! assert_eq!(service.ready().await?.call(7).await?, 8);
//! # Ok(())
//! # }
//! ```

use std::future::poll_fn;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::PolicyError;
use crate::resilience::Pipeline;

/// Puts a pipeline of policies around a service; all services that it is put around share the policies.
#[derive(Debug, Clone)]
pub struct PolicyLayer(Pipeline);

impl PolicyLayer {
    /// A layer of this pipeline.
    pub fn new(pipeline: &Pipeline) -> Self {
        Self(pipeline.clone())
    }
}

impl<S> Layer<S> for PolicyLayer {
    type Service = PolicyService<S>;

    fn layer(&self, inner: S) -> PolicyService<S> {
        PolicyService { inner, pipeline: self.0.clone() }
    }
}

/// A service that is called through policies.
///
/// It is ready when the inner one is. A retry needs the request again, so that it is cloned, and each further attempt waits until a
/// clone of the inner service is ready.
#[derive(Debug, Clone)]
pub struct PolicyService<S> {
    inner: S,
    pipeline: Pipeline,
}

impl<S, R> Service<R> for PolicyService<S>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send + 'static,
    S::Error: From<PolicyError> + Send + 'static,
    R: Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let spare = self.inner.clone();
        // The one that is ready is called first.
        let mut ready = Some(std::mem::replace(&mut self.inner, spare.clone()));
        let pipeline = self.pipeline.clone();
        Box::pin(async move {
            let attempt = move |request: R| {
                let mut service = ready.take().unwrap_or_else(|| spare.clone());
                async move {
                    poll_fn(|context| service.poll_ready(context)).await?;
                    service.call(request).await
                }
            };
            pipeline.call_with(request, attempt).await
        })
    }
}
