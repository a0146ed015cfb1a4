//! Publications as tables and as JSON, without what the events say.

use std::time::Duration;

use aftercommit::clock::Timestamp;
use aftercommit::event::EventHeader;
use aftercommit::publication::{
    Asked, Caused, Counts, Held, ListenerCounts, Overview, Page, Publication, Stage, Story,
};
use aftercommit::store::Paused;
use serde_json::{Value, json};

use super::grid;

pub(super) fn page_table(page: &Page, now: Timestamp) -> String {
    let rows = page.publications.iter().map(|one| {
        let mut row = vec![one.position.0.to_string(), one.listener.clone(), one.stage.status().to_string()];
        row.extend([one.header.name.clone(), one.header.metadata.id.to_string(), key(&one.header)]);
        row.extend([age(one.header.metadata.time, now), one.stage.to_string()]);
        row
    });
    let head = ["POSITION", "LISTENER", "STATE", "EVENT", "ID", "KEY", "AGE", ""];
    let more = page.next.as_ref().map_or_else(String::new, |next| format!("\nthere are more: --after '{next}'\n"));
    grid(&head, rows.collect()) + &more
}

pub(super) fn page_object(page: &Page) -> Value {
    let publications: Vec<Value> = page.publications.iter().map(publication).collect();
    json!({ "publications": publications, "next": page.next.as_ref().map(ToString::to_string) })
}

fn publication(one: &Publication) -> Value {
    let mut object = json!({
        "listener": one.listener, "state": one.stage.status().name(), "position": one.position, "event": header(&one.header),
    });
    let facts = match &one.stage {
        Stage::Running { attempt, since, replayed } => {
            json!({ "attempt": attempt, "since": since, "replayed": replayed })
        }
        Stage::Handled { since } => json!({ "since": since }),
        Stage::Redelivering { attempts, due, error, failed_at, first_failed_at } => json!({
            "attempts": attempts, "due": due, "error": error, "failed_at": failed_at, "first_failed_at": first_failed_at,
        }),
        Stage::Dead { attempts, cause, parked_at, asked } => json!({
            "attempts": attempts, "cause": cause.to_string(), "parked_at": parked_at, "asked": asked,
        }),
        Stage::GivenUp { attempts, how, reason, at } => {
            json!({ "attempts": attempts, "how": how, "reason": reason, "at": at })
        }
        _ => json!({}),
    };
    if let (Value::Object(object), Value::Object(facts)) = (&mut object, facts) {
        object.extend(facts);
    }
    object
}

fn header(header: &EventHeader) -> Value {
    let metadata = &header.metadata;
    json!({
        "id": metadata.id.to_string(), "name": header.name, "version": header.version, "published_at": metadata.time,
        "correlation": metadata.correlation.to_string(), "causation": metadata.causation.map(|id| id.to_string()),
        "key": header.key.as_ref().map(|_| key(header)), "logged": header.logged,
    })
}

pub(super) fn story_table(story: &Story, now: Timestamp) -> String {
    let mut facts = vec![fact("event", story.event.to_string())];
    let position = story.position.map_or_else(String::new, |position| format!("{}, ", position.0));
    facts.push(fact("position", format!("{position}{}", story.held)));
    if let Some(header) = &story.header {
        let metadata = &header.metadata;
        facts.push(fact("name", format!("{}, version {}", header.name, header.version)));
        facts.push(match story.held {
            Held::Later => fact("due", moment(metadata.time)),
            _ => fact("published", format!("{}, {} ago", moment(metadata.time), age(metadata.time, now))),
        });
        facts.push(fact("key", key(header)));
        facts.push(fact("correlation", metadata.correlation.to_string()));
        let causation = metadata.causation.map_or_else(|| "nobody's event".to_owned(), |id| id.to_string());
        facts.push(fact("caused by", causation));
        if !header.not_owed.is_empty() {
            facts.push(fact("not owed to", header.not_owed.join(", ")));
        }
    }
    let owed = story.publications.iter().map(|one| {
        vec![one.listener.clone(), one.stage.status().to_string(), attempts(&one.stage), one.stage.to_string()]
    });
    let owed = match story.publications.is_empty() {
        true => "owed to no durable listener\n".to_owned(),
        false => grid(&["LISTENER", "STATE", "FAILED", ""], owed.collect()),
    };
    let caused = story.caused.iter().map(|Caused { position, header, .. }| {
        let position = position.map_or_else(|| "not due yet".to_owned(), |position| position.0.to_string());
        vec![position, header.name.clone(), header.metadata.id.to_string()]
    });
    let caused = match story.caused.is_empty() {
        true => "caused no stored event\n".to_owned(),
        false => grid(&["CAUSED AT", "EVENT", "ID"], caused.collect()),
    };
    let more = if story.caused_more { "and more\n" } else { "" };
    format!("{}\n{owed}\n{caused}{more}", facts.concat())
}

fn fact(name: &str, value: String) -> String {
    format!("{name:<12} {value}\n")
}

fn attempts(stage: &Stage) -> String {
    match stage {
        Stage::Redelivering { attempts, .. } | Stage::Dead { attempts, .. } | Stage::GivenUp { attempts, .. } => {
            attempts.to_string()
        }
        // Nothing is kept of it.
        _ => "-".to_owned(),
    }
}

pub(super) fn story_object(story: &Story) -> Value {
    let held = match story.held {
        Held::InLog => "log",
        Held::Aside => "aside",
        Held::Later => "later",
        _ => "erased",
    };
    let publications: Vec<Value> = story.publications.iter().map(publication).collect();
    let caused: Vec<Value> =
        story.caused.iter().map(|one| json!({ "position": one.position, "event": header(&one.header) })).collect();
    json!({
        "id": story.event.to_string(), "position": story.position, "held": held,
        "event": story.header.as_ref().map(header),
        "not_owed": story.header.as_ref().map(|header| header.not_owed.clone()),
        "publications": publications, "caused": caused, "caused_more": story.caused_more,
    })
}

pub(super) fn stats_table(overview: &Overview, now: Timestamp) -> String {
    let row = |name: &str, counts: &Counts, behind: String, oldest: String, paused: String| {
        let numbers = [counts.waiting, counts.redelivering, counts.dead, counts.given_up, counts.done.unwrap_or(0)];
        let mut row = vec![name.to_owned()];
        row.extend(numbers.iter().map(u64::to_string));
        row.extend([behind, oldest, paused]);
        row
    };
    let mut rows: Vec<Vec<String>> = overview
        .listeners
        .iter()
        .map(|one| {
            let oldest = one.oldest.map_or_else(|| "-".to_owned(), |oldest| age(oldest, now));
            let paused = one.paused.as_ref().map_or_else(String::new, |paused| format!("paused: {}", paused.reason));
            row(&one.listener, &one.counts, one.behind.to_string(), oldest, paused)
        })
        .collect();
    rows.push(row("in all", &overview.total, String::new(), String::new(), String::new()));
    let head = ["LISTENER", "WAITING", "REDELIVERING", "DEAD", "GIVEN UP", "DONE", "BEHIND", "OLDEST", ""];
    let end = overview.log_end.0;
    let due = overview.next_due.map_or_else(String::new, |due| format!(", the first due {}", moment(due)));
    let later = format!("{} events are published for later{due}", overview.later);
    format!("{}\nthe log ends at {end}; done, as far as it still holds the events\n{later}\n", grid(&head, rows))
}

pub(super) fn stats_object(overview: &Overview) -> Value {
    let listener = |one: &ListenerCounts| {
        json!({
            "listener": one.listener, "counts": counts(&one.counts), "behind": one.behind,
            "oldest": one.oldest, "oldest_age_ms": one.oldest_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            "paused": one.paused,
        })
    };
    let listeners: Vec<Value> = overview.listeners.iter().map(listener).collect();
    json!({
        "listeners": listeners, "total": counts(&overview.total), "log_end": overview.log_end,
        "later": overview.later, "next_due": overview.next_due,
    })
}

fn counts(counts: &Counts) -> Value {
    json!({
        "waiting": counts.waiting, "redelivering": counts.redelivering, "dead": counts.dead,
        "given_up": counts.given_up, "done": counts.done,
    })
}

pub(super) fn asked_table(asked: &Asked) -> String {
    let mut text =
        format!("{} dead letters are called again once their application runs; nobody is called now\n", asked.asked);
    if asked.behind > 0 {
        text.push_str(&format!(
            "{} stay as they are: they wait behind another of their sequence, which was not named\n",
            asked.behind
        ));
    }
    text
}

pub(super) fn asked_object(asked: &Asked) -> Value {
    json!({ "asked": asked.asked, "behind": asked.behind, "takes_effect": "at the next start" })
}

pub(super) fn paused_table(listener: &str, before: Option<&Paused>, paused: bool) -> String {
    match (paused, before) {
        (true, None) => format!("{listener} is paused: it is not called from the next start on\n"),
        (true, Some(before)) => format!("{listener} stays paused; it was, because of: {}\n", before.reason),
        (false, Some(_)) => format!("{listener} is called again from the next start on\n"),
        (false, None) => format!("{listener} was not paused\n"),
    }
}

pub(super) fn paused_object(listener: &str, before: Option<&Paused>, paused: bool) -> Value {
    json!({ "listener": listener, "paused": paused, "before": before, "takes_effect": "at the next start" })
}

/// A key as it is named on the command line.
fn key(header: &EventHeader) -> String {
    header.key.as_deref().map_or_else(|| "-".to_owned(), aftercommit::key::readable)
}

/// How long ago, in its two largest units.
fn age(time: Timestamp, now: Timestamp) -> String {
    span(now.since(time))
}

fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, ..) => format!("{days}d {hours}h"),
    }
}

/// A moment as a date and a time of day in UTC.
fn moment(time: Timestamp) -> String {
    let (days, seconds) = (time.0 / 86_400_000, time.0 / 1_000 % 86_400);
    // Years from March on, in eras of 400, so that the day that a leap year has more comes last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_dates() {
        for (time, read) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (951_868_799_999, "2000-02-29 23:59:59 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
            (1_767_225_599_000, "2025-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(moment(Timestamp(time)), read);
        }
        assert_eq!(span(Duration::from_secs(93_784)), "1d 2h");
    }
}
