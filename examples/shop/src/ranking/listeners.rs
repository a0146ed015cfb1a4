//! What the ranking makes of views, likes, carts and orders; a cancel takes nothing back.
//!
//! As in the catalogue, additions commute and are applied exactly once, and what fails would fail again.

use aftercommit::prelude::*;

use super::SCORES;
use crate::catalog::events::{ItemAddedToCart, ItemLiked, ItemViewed};
use crate::orders::events::OrderPlaced;
use crate::score::Scoring;

#[listener(durable, id = "shop.rank-views", concurrency = 64, redeliver(attempts = 1))]
fn rank_view(event: &ItemViewed, tx: &mut Tx, scoring: State<Scoring>) -> Result<(), Error> {
    SCORES.add(tx, &(event.day, event.item), scoring.view().units())
}

#[listener(durable, id = "shop.rank-likes", concurrency = 64, redeliver(attempts = 1))]
fn rank_like(event: &ItemLiked, tx: &mut Tx, scoring: State<Scoring>) -> Result<(), Error> {
    SCORES.add(tx, &(event.day, event.item), scoring.like().units())
}

#[listener(durable, id = "shop.rank-carts", concurrency = 64, redeliver(attempts = 1))]
fn rank_cart(event: &ItemAddedToCart, tx: &mut Tx, scoring: State<Scoring>) -> Result<(), Error> {
    SCORES.add(tx, &(event.day, event.item), scoring.addtocart().units())
}

#[listener(durable, id = "shop.rank-purchases", concurrency = 64, redeliver(attempts = 1))]
fn rank_purchases(event: &OrderPlaced, tx: &mut Tx, scoring: State<Scoring>) -> Result<(), Error> {
    event.lines.iter().try_for_each(|line| {
        let score = scoring.purchase(line.amount());
        SCORES.add(tx, &(line.day, line.item), score.units())
    })
}
