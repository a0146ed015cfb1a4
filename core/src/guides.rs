//! The guide's examples, compiled and run with the doctests.

macro_rules! guides {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[doc = include_str!(concat!("../../docs/guide/", $path))]
            mod $name {}
        )*
    };
}

#[cfg(feature = "resilience")]
guides! {
    resilience: "resilience.md",
}

#[cfg(feature = "ranking")]
guides! {
    ranking: "ranking.md",
}

guides! {
    listeners: "listeners.md",
    units: "units.md",
    durable: "durable.md",
    later: "later.md",
    locks: "locks.md",
    evolution: "evolution.md",
    streams: "streams.md",
    retention: "retention.md",
    testing: "testing.md",
    simulation: "simulation.md",
    operating: "operating.md",
}
