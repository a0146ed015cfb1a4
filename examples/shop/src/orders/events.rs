//! What is said of orders.

use aftercommit::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Line, OrderId};

/// Something was bought; a large order is told in several events.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "shop.order-placed", version = 1)]
pub struct OrderPlaced {
    /// By which order.
    #[event(key)]
    pub order: OrderId,
    /// What was bought.
    pub lines: Vec<Line>,
}

/// Something was taken back; much of it is told in several events.
#[derive(Event, Clone, Debug, Serialize, Deserialize)]
#[event(name = "shop.order-cancelled", version = 1)]
pub struct OrderCancelled {
    /// By which order.
    #[event(key)]
    pub order: OrderId,
    /// What was taken back.
    pub lines: Vec<Line>,
}
