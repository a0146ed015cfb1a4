//! What was said in the attribute.

use proc_macro2::{Ident, TokenStream};
use syn::parse::ParseStream;
use syn::{Expr, ExprClosure, LitStr, Path};

use super::durable::{ACK, Batch, Park, Redeliver, SEQUENCES, START, Word, batch, park, redeliver, word};
use crate::support::args::{self, Form, Said, form, read_tokens};
use crate::support::{Errors, default_crate};

const FORMS: &[Form] = &[
    Form { values: &PHASES, ..form("phase", "phase = AfterCommit") },
    form("order", "order = 10"),
    form("condition", "condition = |event| .."),
    form("lock", "lock = |event| event.product"),
    form("id", "id = \"shop.send-receipt\""),
    form("formerly", "formerly = [\"shop.mail-receipt\"]"),
    form("without_tx", "without_tx = run"),
    form("spawn", "spawn"),
    form("blocking", "blocking"),
    form("durable", "durable"),
    Form { values: &SEQUENCES, ..form("sequence", "sequence = Total") },
    form("redeliver", "redeliver(attempts = 5, backoff = exponential(Duration::from_millis(100)))"),
    form("park", "park(followers = Pass)"),
    form("concurrency", "concurrency = 8"),
    form("look_ahead", "look_ahead = 4096"),
    form("ack", "ack = Count(100)"),
    form("batch", "batch(max = 100, linger = Duration::from_millis(50))"),
    form("start", "start = Beginning"),
    form("time_limit", "time_limit = Duration::from_secs(5)"),
    form("slow_after", "slow_after = Duration::from_secs(1)"),
    form("resilient", "resilient = GATEWAY"),
    form("crate", "crate = ::aftercommit"),
];

pub(crate) const PHASES: [&str; 5] = ["Immediate", "BeforeCommit", "AfterCommit", "AfterRollback", "AfterCompletion"];

/// The arguments of `#[listener]`.
pub(crate) struct Args {
    pub(crate) krate: Path,
    pub(crate) phase: Option<Said<Ident>>,
    pub(crate) order: Option<Said<Expr>>,
    pub(crate) condition: Option<Said<ExprClosure>>,
    pub(crate) lock: Option<Said<ExprClosure>>,
    pub(crate) id: Option<Said<LitStr>>,
    pub(crate) formerly: Option<Said<Vec<LitStr>>>,
    pub(crate) without_tx: Option<Said<()>>,
    pub(crate) spawn: Option<Said<()>>,
    pub(crate) blocking: Option<Said<()>>,
    pub(crate) durable: Option<Said<()>>,
    pub(crate) sequence: Option<Said<Word>>,
    pub(crate) redeliver: Option<Said<Redeliver>>,
    pub(crate) park: Option<Said<Park>>,
    pub(crate) concurrency: Option<Said<Expr>>,
    pub(crate) look_ahead: Option<Said<Expr>>,
    pub(crate) ack: Option<Said<Word>>,
    pub(crate) batch: Option<Said<Batch>>,
    pub(crate) start: Option<Said<Word>>,
    pub(crate) time_limit: Option<Said<Expr>>,
    pub(crate) slow_after: Option<Said<Expr>>,
    pub(crate) resilient: Option<Said<Expr>>,
}

impl Args {
    pub(crate) fn read(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Args {
            krate: default_crate(),
            phase: None,
            order: None,
            condition: None,
            lock: None,
            id: None,
            formerly: None,
            without_tx: None,
            spawn: None,
            blocking: None,
            durable: None,
            sequence: None,
            redeliver: None,
            park: None,
            concurrency: None,
            look_ahead: None,
            ack: None,
            batch: None,
            start: None,
            time_limit: None,
            slow_after: None,
            resilient: None,
        };
        read_tokens(tokens, FORMS, errors, |name, input, errors| args.set(name, input, errors));
        args
    }

    fn set(&mut self, name: &Ident, input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
        let flag = || Some(Said { name: name.clone(), value: () });
        match &*name.to_string() {
            "phase" => {
                let path = args::value(input)?;
                self.phase = phase(&path, errors).map(|value| Said { name: name.clone(), value });
            }
            "order" => self.order = said(name, args::value(input)?),
            "condition" => self.condition = said(name, args::value(input)?),
            "lock" => self.lock = said(name, args::value(input)?),
            "id" => self.id = said(name, args::value(input)?),
            "formerly" => self.formerly = said(name, args::strings(input)?),
            "without_tx" => {
                let value: Ident = args::value(input)?;
                if value != "run" {
                    errors.push(&value, format!("unknown value `{value}`; write `without_tx = run`, or leave it out: publishing without a unit of work is then an error that names this listener"));
                }
                self.without_tx = flag();
            }
            "spawn" => self.spawn = flag(),
            "blocking" => self.blocking = flag(),
            "durable" => self.durable = flag(),
            "sequence" => {
                self.sequence = word(input, "sequence", &SEQUENCES, errors)?.and_then(|value| said(name, value));
            }
            "redeliver" => self.redeliver = said(name, redeliver(input, errors)?),
            "park" => self.park = said(name, park(input, errors)?),
            "look_ahead" => self.look_ahead = said(name, args::value(input)?),
            "ack" => self.ack = word(input, "ack mode", ACK, errors)?.and_then(|value| said(name, value)),
            "batch" => self.batch = said(name, batch(input, errors)?),
            "start" => self.start = word(input, "start", START, errors)?.and_then(|value| said(name, value)),
            "concurrency" => self.concurrency = said(name, args::value(input)?),
            "time_limit" => self.time_limit = said(name, args::value(input)?),
            "slow_after" => self.slow_after = said(name, args::value(input)?),
            "resilient" => self.resilient = said(name, args::value(input)?),
            _ => self.krate = args::path(input)?,
        }
        Ok(())
    }

    /// Whether the phase said is this one.
    pub(crate) fn is_phase(&self, phase: &str) -> bool {
        self.phase.as_ref().is_some_and(|said| said.value == phase)
    }
}

fn said<T>(name: &Ident, value: T) -> Option<Said<T>> {
    Some(Said { name: name.clone(), value })
}

/// `AfterCommit`, or a path that ends in `Phase::AfterCommit`.
fn phase(path: &Path, errors: &mut Errors) -> Option<Ident> {
    let mut ends = path.segments.iter().rev();
    let last = ends.next()?;
    let of_phase = ends.next().is_none_or(|of| of.ident == "Phase");
    if of_phase && last.arguments.is_none() && PHASES.iter().any(|phase| last.ident == phase) {
        return Some(last.ident.clone());
    }
    let written = quote::quote!(#path).to_string().replace(' ', "");
    let legal = PHASES.map(|phase| format!("`{phase}`")).join(", ");
    errors.push(path, format!("unknown phase `{written}`; expected one of: {legal}"));
    None
}
