//! Every rule of a listener's declaration, with the legal form in its words.
//!
//! The bus refuses the same at start for listeners that were declared by hand.

use syn::{Expr, ExprClosure, GenericParam, Signature, Type};

use super::args::Args;
use super::model::{Model, Parameter, written};
use crate::support::args::is_zero;
use crate::support::{Errors, check_name};

pub(crate) fn all(model: &Model<'_>, errors: &mut Errors) {
    function(model.signature, errors);
    parameters(model, errors);
    names(&model.args, errors);
    values(model, errors);
    match &model.args.durable {
        Some(_) => durable(model, errors),
        None => phase_bound(model, errors),
    }
    lock(model, errors);
    mode(model, errors);
    without_tx(model, errors);
}

fn function(signature: &Signature, errors: &mut Errors) {
    for param in &signature.generics.params {
        if !matches!(param, GenericParam::Lifetime(_)) {
            errors.push(
                param,
                "a generic function is no listener: write one function for each event, which may call the generic one",
            );
        }
    }
    if let Some(unsafety) = &signature.unsafety {
        errors
            .push(unsafety, "a listener is called by the bus, which upholds no contract of yours: make it a safe `fn`");
    }
    if let Some(constness) = &signature.constness {
        errors.push(constness, "a listener is a `fn` or an `async fn`, not a `const fn`");
    }
    if let Some(abi) = &signature.abi {
        errors.push(abi, "a listener is a `fn` or an `async fn`, not an `extern fn`");
    }
    if let syn::ReturnType::Type(_, answer) = &signature.output
        && let Type::ImplTrait(answer) = &**answer
    {
        errors
            .push(answer, "write the type of the answer: `()`, `Settled`, `Publish<E>`, or a `Result` of one of these");
    }
}

fn parameters(model: &Model<'_>, errors: &mut Errors) {
    let tx = model.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Tx(tx) => Some(tx),
        _ => None,
    });
    for second in tx.skip(1) {
        errors.push(second, "a listener takes one `&mut Tx`");
    }
    let deliveries = model.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Delivery(delivery) => Some(delivery),
        _ => None,
    });
    for second in deliveries.skip(1) {
        errors.push(second, "a listener takes one `Delivery`");
    }
    let acks = model.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Ack(ack) => Some(ack),
        _ => None,
    });
    for second in acks.skip(1) {
        errors.push(second, "a listener takes one `Ack`");
    }
    for parameter in &model.parameters {
        if let Parameter::Other(other) = parameter
            && let Type::ImplTrait(opaque) = &*other.ty
        {
            errors.push(opaque, "a generic function is no listener: write the type of the parameter");
        }
    }
    let Some(delivery) = model.delivery() else { return };
    if let Some(tx) = model.tx() {
        errors.push(tx, "a listener with a `Delivery` takes no `tx`: take it from `delivery.settle(async |tx| ..)`");
    }
    if !model.is_async() {
        errors.push(delivery, "a `Delivery` is settled by awaiting it: make the listener an `async fn`");
    }
    if model.args.durable.is_none() {
        errors.push(
            delivery,
            "only a durable listener is given a `Delivery`: add `durable, id = \"shop.book-delivery\"`",
        );
    }
}

fn names(args: &Args, errors: &mut Errors) {
    if let Some(id) = &args.id {
        check_name("the id of a listener", &id.value, errors);
    }
    for old in args.formerly.iter().flat_map(|formerly| &formerly.value) {
        check_name("a former id", old, errors);
        if args.id.as_ref().is_some_and(|id| id.value.value() == old.value()) {
            errors.push(old, "this is its id now: list only the ids it had before");
        }
    }
}

fn values(model: &Model<'_>, errors: &mut Errors) {
    let args = &model.args;
    if let Some(condition) = &args.condition {
        closure(&condition.value, errors);
    }
    let attempts = args.redeliver.as_ref().and_then(|redeliver| redeliver.value.attempts.as_ref());
    if let Some(attempts) = attempts.filter(|attempts| is_zero(attempts)) {
        errors.push(
            attempts,
            "the first call is an attempt, so there is at least 1: write `attempts = 1` for no redelivery",
        );
    }
    if let Some(concurrency) = args.concurrency.as_ref().filter(|said| is_zero(&said.value)) {
        errors.push(&concurrency.value, "with 0 it would never be called: write `concurrency = 1` or more");
    }
    let events = args.look_ahead.iter().map(|said| &said.value);
    for zero in events.chain(args.batch.iter().flat_map(|said| &said.value.max)).filter(|value| is_zero(value)) {
        errors.push(zero, "with 0 it would never be called: write 1 or more");
    }
    let limits = args.park.iter().flat_map(|said| [&said.value.sequences, &said.value.length]);
    for zero in limits.flatten().filter(|value| is_zero(value)) {
        errors.push(zero, "with room for 0 nothing could be parked: write 1 or more, or `followers = Stop`");
    }
    let count = args.ack.as_ref().and_then(|said| said.value.with.first());
    if let Some(count) = count.filter(|count| is_zero(count)) {
        errors.push(count, "after 0 events there is nothing to settle: write 1 or more");
    }
    if let Some(order) = &args.order
        && let Expr::Lit(syn::ExprLit { lit, .. }) = &order.value
        && !matches!(lit, syn::Lit::Int(_))
    {
        errors.push(lit, "an order is an `i32`: write `order = 10`");
    }
}

fn closure(condition: &ExprClosure, errors: &mut Errors) {
    if let Some(asyncness) = &condition.asyncness {
        errors.push(asyncness, "a condition does not wait: write `condition = |event| ..`");
    }
    if !matches!(condition.inputs.len(), 1 | 2) {
        errors.push(
            condition,
            "a condition takes the event, or the event and the call: write `|event| ..` or `|event, call| ..`",
        );
    }
}

fn durable(model: &Model<'_>, errors: &mut Errors) {
    let args = &model.args;
    if let (Some(durable), None) = (&args.durable, &args.id) {
        errors.push(
            &durable.name,
            "a durable listener needs an id that outlives the name of its function: add `id = \"shop.units-sold\"`",
        );
    }
    if let Some(phase) = &args.phase {
        errors.push(
            &phase.name,
            "a durable listener runs after the commit, on a time of its own: drop `phase`, or `durable`",
        );
    }
    if let Some(order) = &args.order {
        errors.push(
            &order.name,
            "a durable listener runs on a time of its own, not in the order of a phase: drop `order`",
        );
    }
    for said in [&args.spawn, &args.blocking, &args.without_tx].into_iter().flatten() {
        let name = &said.name;
        errors.push(name, format!("a durable listener has a time of its own: drop `{name}`, or `durable`"));
    }
    if let Some(limit) = args.time_limit.as_ref().filter(|_| !model.is_async()) {
        errors.push(&limit.name, "a time limit needs an `async fn`: a `fn` cannot be stopped");
    }
    let total = args.sequence.as_ref().is_some_and(|said| said.value.name == "Total");
    if let Some(concurrency) = args.concurrency.as_ref().filter(|said| total && !is_one(&said.value)) {
        errors.push(
            &concurrency.name,
            "a total order has one delivery at a time: drop `concurrency`, or `sequence = Total`",
        );
    }
    acknowledged(model, errors);
    batches(model, errors);
}

fn is_one(expr: &Expr) -> bool {
    matches!(expr, Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(int), .. }) if int.base10_digits() == "1")
}

fn acknowledged(model: &Model<'_>, errors: &mut Errors) {
    let ack = model.args.ack.as_ref();
    let is_manual = ack.is_some_and(|said| said.value.name == "Manual" || said.value.name == "ManualImmediate");
    let owner = model.tx().map(|_| "`tx`").or(model.delivery().map(|_| "`Delivery`"));
    match (ack.filter(|said| said.value.name != "Record"), owner, model.ack()) {
        (Some(ack), Some(owner), _) => {
            errors.push(&ack.name, format!("its own commit settles it: drop `ack`, or the {owner}"));
        }
        (_, _, Some(parameter)) if !is_manual => {
            errors.push(
                parameter,
                "who takes an `Ack` acknowledges by itself: add `ack = Manual` or `ack = ManualImmediate`",
            );
        }
        (Some(ack), _, None) if is_manual => {
            errors.push(&ack.value.name, "it could never acknowledge: take an `Ack`, as `ack: Ack`");
        }
        _ => {}
    }
}

fn batches(model: &Model<'_>, errors: &mut Errors) {
    let batch = model.args.batch.as_ref();
    if let Some(batch) = batch.filter(|_| !model.takes_batch) {
        let event = model.event.map_or_else(|| "E".to_owned(), written);
        errors.push(&batch.name, format!("a batch is a slice: take it as `events: &[Delivered<{event}>]`"));
    }
    if !model.takes_batch {
        return;
    }
    if batch.is_none() {
        errors.push(model.event, "who takes several events says how many: add `batch(max = 100)`");
    }
    if let Some(delivery) = model.delivery() {
        errors.push(delivery, "a `Delivery` is of one event: take a `tx`, or one event");
    }
    if let Some(ack) = model.ack() {
        errors.push(ack, "an `Ack` is of one event: drop it, or take one event");
    }
}

fn phase_bound(model: &Model<'_>, errors: &mut Errors) {
    let args = &model.args;
    let durable_only = [
        args.formerly.as_ref().map(|said| &said.name),
        args.sequence.as_ref().map(|said| &said.name),
        args.redeliver.as_ref().map(|said| &said.name),
        args.park.as_ref().map(|said| &said.name),
        args.concurrency.as_ref().map(|said| &said.name),
        args.look_ahead.as_ref().map(|said| &said.name),
        args.ack.as_ref().map(|said| &said.name),
        args.batch.as_ref().map(|said| &said.name),
        args.start.as_ref().map(|said| &said.name),
        args.time_limit.as_ref().map(|said| &said.name),
    ];
    for name in durable_only.into_iter().flatten() {
        errors.push(
            name,
            format!("`{name}` is for a durable listener: add `durable, id = \"shop.units-sold\"`, or drop it"),
        );
    }
    if let Some(decision) = model.decision() {
        errors.push(
            decision,
            "a `Decision` is about a delivery, which only a durable listener has: add `durable, id = \"shop.units-sold\"`",
        );
    }
    if let Some(ack) = model.ack() {
        errors
            .push(ack, "only a durable listener is given an `Ack`: add `durable, id = \"shop.export\", ack = Manual`");
    }
    if model.takes_batch {
        errors.push(
            model.event,
            "only a durable listener takes several events: add `durable, id = \"shop.import\", batch(max = 100)`",
        );
    }
    let has_tx = args.is_phase("Immediate") || args.is_phase("BeforeCommit");
    if let Some(tx) = model.tx().filter(|_| !has_tx) {
        errors.push(tx, "the unit of work has ended when it runs, so there is no `tx`: write `phase = BeforeCommit`, make it `durable`, or take a `Bus` to begin another");
    }
    if args.is_phase("Immediate") && model.is_async() && args.spawn.is_none() {
        errors.push(model.signature.asyncness, "publishing does not wait: an immediate `async fn` needs `spawn`");
    }
}

fn mode(model: &Model<'_>, errors: &mut Errors) {
    let args = &model.args;
    if let Some(spawn) = &args.spawn {
        if !model.is_async() {
            errors.push(&spawn.name, "`spawn` is for an `async fn`; a `fn` goes to the background with `blocking`");
        }
        if args.is_phase("BeforeCommit") {
            errors.push(
                &spawn.name,
                "the commit depends on a before-commit listener, so that it cannot run in the background: drop `spawn`",
            );
        }
    }
    if let Some(blocking) = args.blocking.as_ref().filter(|_| model.is_async()) {
        errors.push(&blocking.name, "`blocking` is for a `fn`; an `async fn` goes to the background with `spawn`");
    }
    if let (Some(tx), Some(said)) = (model.tx(), args.spawn.as_ref().or(args.blocking.as_ref())) {
        errors.push(tx, format!("a `tx` cannot leave its unit of work: drop it, or `{}`", said.name));
    }
}

fn lock(model: &Model<'_>, errors: &mut Errors) {
    let args = &model.args;
    let Some(lock) = &args.lock else { return };
    if let Some(asyncness) = &lock.value.asyncness {
        errors.push(asyncness, "a key does not wait: write `lock = |event| event.product`");
    }
    if lock.value.inputs.len() != 1 {
        errors.push(&lock.value, "the key is told by the event: write `lock = |event| event.product`");
    }
    if model.takes_batch {
        errors.push(&lock.name, "a lock is of one event's key: drop `lock`, or take one event");
    }
    if args.durable.is_some() {
        return;
    }
    if args.is_phase("Immediate") {
        errors.push(
            &lock.name,
            "publishing does not wait, not for a lock either: drop `lock`, or write `phase = BeforeCommit`",
        );
    }
    if let Some(said) = args.spawn.as_ref().or(args.blocking.as_ref()).or(args.without_tx.as_ref()) {
        let name = &said.name;
        errors.push(name, format!("a lock is waited for where the call is awaited: drop `{name}`, or the `lock`"));
    }
}

fn without_tx(model: &Model<'_>, errors: &mut Errors) {
    let args = &model.args;
    let Some(without_tx) = args.without_tx.as_ref().filter(|_| args.durable.is_none()) else { return };
    if args.is_phase("Immediate") {
        errors.push(&without_tx.name, "an immediate listener runs without a unit of work anyway: drop `without_tx`");
        return;
    }
    if let Some(tx) = model.tx() {
        errors.push(tx, "`without_tx = run` calls it where there is no `tx`: drop one of them");
    }
    if model.is_async() && args.spawn.is_none() {
        errors.push(
            &without_tx.name,
            "`without_tx = run` calls it from a publish that does not wait: an `async fn` needs `spawn`",
        );
    }
}
