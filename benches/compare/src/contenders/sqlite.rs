//! SQLite, built in: write-ahead log, synced with every commit; one transaction a group, prepared statements.

use std::path::Path;

use rusqlite::Connection;

use crate::Groups;
use crate::work::Work;

pub(super) struct Sqlite(Connection);

const SET_UP: &str = "
    pragma journal_mode = wal;
    pragma synchronous = full;
    pragma cache_size = -131072;
    create table rows (key blob primary key, value blob not null) without rowid;
    create table outbox (position integer primary key, body blob not null);
";

impl Sqlite {
    pub(super) fn new(path: &Path) -> Self {
        let connection = Connection::open(path.join("sqlite")).expect("SQLite opens");
        connection.execute_batch(SET_UP).expect("is set up");
        let says = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, String>(0));
        assert_eq!(says("pragma journal_mode").as_deref(), Ok("wal"));
        assert_eq!(connection.query_row("pragma synchronous", [], |row| row.get::<_, i64>(0)), Ok(2));
        Self(connection)
    }
}

impl Groups for Sqlite {
    fn commit(&mut self, group: &[Work]) {
        let change = self.0.transaction().expect("begins");
        {
            let mut row_in = change.prepare_cached("insert into rows values (?, ?)").expect("a statement");
            let mut event_in = change.prepare_cached("insert into outbox (body) values (?)").expect("a statement");
            for Work { key, row, event } in group {
                row_in.execute((&key[..], &row[..])).expect("is written");
                event_in.execute((&event[..],)).expect("is written");
            }
        }
        change.commit().expect("commits");
    }

    fn units(&mut self) -> u64 {
        let count = |table: &str| {
            let text = format!("select count(*) from {table}");
            self.0.query_row(&text, [], |row| row.get::<_, i64>(0)).expect("is counted") as u64
        };
        assert_eq!(count("rows"), count("outbox"));
        count("rows")
    }
}
