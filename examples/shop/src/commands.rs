//! The commands that work on the shop's data: `replay` and `items`.
//!
//! What they print goes to `out`, and only when it is whole; what they tell goes to standard error.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aftercommit::error::StoreError;
use aftercommit::store::Store;

use crate::app::{Shop, stored_run};
use crate::catalog;
use crate::cli::{ItemsArgs, ReplayArgs};
use crate::error::ShopError;
use crate::progress::{Progress, Summary};
use crate::ranking;
use crate::replay::Replay;
use crate::report;
use crate::run::RunId;

/// Works a log off and prints each day's ranking; goes on where an earlier run with the same arguments left off.
///
/// # Errors
/// If the log cannot be read (before the data is touched), the data is of another run, or something in between fails.
pub async fn replay(
    args: &ReplayArgs,
    open: impl FnOnce() -> Result<Arc<dyn Store>, StoreError>,
    out: &mut impl Write,
) -> Result<(), ShopError> {
    let source = args.source();
    let run = RunId::new(&source, &args.scoring())?;
    let units = source.units()?;
    let shop = Shop::start(opened(&args.data, open)?, &run).await?;
    let work = async {
        let progress = Progress::start(run.content().lines.saturating_sub(1));
        let started = Instant::now();
        let replay = Replay { in_flight: args.in_flight, skip_bad: args.skip_bad };
        let replayed = replay.run(shop.bus(), units, |lines| progress.advance(lines)).await?;
        let applied = started.elapsed();
        shop.settled().await?;
        shop.finish(&run).await?;
        let settled = started.elapsed();
        for day in ranking::days(shop.ranking(), args.top.get()) {
            writeln!(out, "{day}")?;
        }
        out.flush()?;
        progress.finish(&source.name());
        Summary { replayed, applied, settled }.print();
        Ok(())
    };
    let worked = work.await;
    // The first error is the one to tell.
    worked.and(shop.stop().await)
}

/// Prints what was sold of each item, of the log that was replayed.
///
/// # Errors
/// If there is no data of a replay, or it cannot be read.
pub async fn items(
    args: &ItemsArgs,
    open: impl FnOnce() -> Result<Arc<dyn Store>, StoreError>,
    out: &mut impl Write,
) -> Result<(), ShopError> {
    if !args.data.is_dir() {
        return Err(ShopError::NoRun { path: args.data.clone() });
    }
    let store = opened(&args.data, open)?;
    let Some(run) = stored_run(&*store)? else {
        store.close().await.map_err(aftercommit::Error::from)?;
        return Err(ShopError::NoRun { path: args.data.clone() });
    };
    if !run.finished {
        let _ =
            writeln!(io::stderr(), "the replay of {} has not come to its end: these are the sums so far", run.id.log());
    }
    let shop = Shop::start(store, &run.id).await?;
    let work = async {
        shop.settled().await?;
        let sales = catalog::sales(&mut shop.bus().reader()?)?;
        report::items(sales.into_iter().map(Ok::<_, ShopError>), out)?;
        Ok(out.flush()?)
    };
    let worked = work.await;
    worked.and(shop.stop().await)
}

fn opened(path: &Path, open: impl FnOnce() -> Result<Arc<dyn Store>, StoreError>) -> Result<Arc<dyn Store>, ShopError> {
    open().map_err(|cause| ShopError::Open { path: path.to_owned(), cause })
}
