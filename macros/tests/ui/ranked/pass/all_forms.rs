//! Every form of `#[derive(Ranked)]` does what the same by hand does.

use aftercommit::clock::Timestamp;
use aftercommit::prelude::*;
use aftercommit::ranking::{Ranked, Ranking, Score, Windows};
use serde::{Deserialize, Serialize};

#[derive(Event, Ranked, Serialize, Deserialize)]
#[event(name = "ui.viewed")]
#[ranked(source = "view")]
struct Viewed(#[ranked(item)] String);

#[derive(Event, Ranked, Serialize, Deserialize)]
#[event(name = "ui.sold")]
#[ranked(source = "sale", points = |event| event.price * event.units)]
struct Sold {
    #[ranked(item)]
    product: String,
    price: f64,
    units: f64,
    #[ranked(at)]
    at: Timestamp,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ranking = Ranking::<String>::declare("ui.ranking")
        .windows(Windows::every(std::time::Duration::from_secs(1)))
        .counts::<Viewed>("0.1")
        .counts::<Sold>("1")
        .build()?;
    let bus = Bus::builder().ranking(&ranking).start().await?;
    bus.transaction(async |tx| {
        tx.publish(Sold { product: "mug".to_owned(), price: 2.5, units: 2.0, at: Timestamp(3_500) })?;
        tx.publish(Viewed("pen".to_owned()))
    })
    .await?;
    bus.idle().await;
    let then = ranking.window(Timestamp(3_000), |board| board.score(&"mug".to_owned()));
    assert_eq!(then, Some(Some(Score(5_000_000))));
    assert_eq!(ranking.top(9)[0].item, "pen", "when it was published");
    Ok(())
}
