//! The marked methods of a component are listeners; the others are untouched.
#![forbid(unsafe_code)]
#![deny(missing_docs, unreachable_pub, rust_2018_idioms, warnings)]

use std::convert::Infallible;

use aftercommit::listener::{Mode, State};
use aftercommit::transaction::Tx;
use aftercommit::{Event, Phase, listed, listeners};

#[derive(Event)]
struct OrderPlaced {
    total: u64,
}

struct Pages;

/// Sends mail.
pub struct Mailer {
    sender: String,
}

#[listeners]
impl Mailer {
    /// Makes one.
    pub fn new() -> Self {
        Self { sender: "shop".to_owned() }
    }

    #[listener]
    fn count(&self, event: &OrderPlaced) {
        let _ = (&self.sender, event.total);
    }

    #[listener(phase = BeforeCommit, order = 2)]
    fn check(&self, event: &OrderPlaced, tx: &mut Tx) -> Result<(), Infallible> {
        let _ = (&self.sender, event.total, tx);
        Ok(())
    }

    #[aftercommit::listener(spawn, id = "mail.send")]
    async fn send(&self, event: &OrderPlaced, pages: State<Pages>) -> Result<(), Infallible> {
        let _ = (&self.sender, event.total, pages);
        Ok(())
    }
}

struct Gateway<T>(T);

#[listeners(crate = ::aftercommit)]
impl Gateway<u8> {
    #[listener]
    async fn on(&self, _: &OrderPlaced) {
        let _ = self.0;
    }
}

fn main() {
    let _ = (Mailer::new(), Gateway(0_u8));
    let mailer = listed![Mailer];
    let [count, check, send] = &mailer[..] else { panic!("{mailer:?}") };
    assert_eq!(count.descriptor().id, concat!(module_path!(), "::Mailer::count"));
    assert_eq!(count.descriptor().needs.len(), 1);
    assert_eq!((check.descriptor().phase, check.descriptor().wants_tx), (Phase::BeforeCommit, true));
    assert_eq!((&*send.descriptor().id, send.descriptor().mode), ("mail.send", Mode::Spawned));
    assert_eq!(send.descriptor().needs.len(), 2);
    let gateway = listed![Gateway<u8>];
    assert_eq!(gateway[0].descriptor().id, concat!(module_path!(), "::Gateway<u8>::on"));
}
