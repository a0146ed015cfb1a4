#![allow(unused)]

use aftercommit::observe::Meter;
use aftercommit::prelude::*;

struct Carrier {
    meter: Meter,
    slips: Vec<u32>,
}

impl Carrier {
    #[metered(name = "carrier.first", meter = self.meter)]
    fn first(&self) -> Option<&u32> {
        self.slips.first()
    }

    #[metered(name = "carrier.book", kind = |error: &std::fmt::Error| error.to_string())]
    async fn book(&mut self, slip: u32) -> Result<usize, std::fmt::Error> {
        if slip == 0 {
            return Err(std::fmt::Error);
        }
        self.slips.push(slip);
        Ok(self.slips.len())
    }
}

#[metered(name = "add")]
async fn add<T: std::ops::Add<Output = T>>(one: T, other: T) -> Result<T, Error> {
    Ok(one + other)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut carrier = Carrier { meter: Meter::process(), slips: vec![] };
    assert_eq!(carrier.book(3).await?, 1);
    assert!(carrier.book(0).await.is_err());
    assert_eq!(carrier.first(), Some(&3));
    assert_eq!(add(1, 2).await?, 3);
    Ok(())
}
