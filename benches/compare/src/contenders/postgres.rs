//! PostgreSQL as it is installed, with its defaults, on a socket in the folder: row and outbox row in one statement, which
//! commits itself; each task has a connection of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::measure::{busy_of, stat};
use crate::work::Work;
use crate::{Opened, Units};

/// Where Debian keeps the programs of each version.
const PROGRAMS: &str = "/usr/lib/postgresql";
const CONNECTIONS: usize = 64;

const SET_UP: &str = "
    create table rows (key bytea primary key, value bytea not null);
    create table outbox (position bigint generated always as identity primary key, body bytea not null);
";
const UNIT: &str = "with row as (insert into rows values ($1, $2)) insert into outbox (body) values ($3)";

/// Opens a server of its own in `folder`.
pub(super) fn open(folder: &Path, runtime: &Runtime) -> Result<Opened, String> {
    let server = Server::start(folder)?;
    let connections = runtime.block_on(connect(folder)).map_err(|cause| format!("PostgreSQL: {cause}"))?;
    let free = Arc::new(Free { room: Semaphore::new(connections.len()), connections: Mutex::new(connections) });
    Ok(Opened::Units(Arc::new(Postgres { free, server })))
}

struct Postgres {
    free: Arc<Free>,
    server: Server,
}

/// The connections that nobody uses.
struct Free {
    room: Semaphore,
    connections: Mutex<Vec<(Client, Statement)>>,
}

async fn connect(folder: &Path) -> Result<Vec<(Client, Statement)>, tokio_postgres::Error> {
    let mut config = Config::new();
    config.host_path(folder).user("bench").dbname("postgres");
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        if number == 0 {
            client.batch_execute(SET_UP).await?;
        }
        let statement = client.prepare(UNIT).await?;
        connections.push((client, statement));
    }
    Ok(connections)
}

impl Units for Postgres {
    fn commit(&self, work: Work) -> BoxFuture<'static, ()> {
        let free = self.free.clone();
        async move {
            let _place = free.room.acquire().await.expect("never closed");
            let (client, statement) = free.connections.lock().pop().expect("as many as there are places");
            let written = client.execute(&statement, &[&&work.key[..], &work.row, &work.event]).await;
            assert_eq!(written.expect("commits"), 1);
            free.connections.lock().push((client, statement));
        }
        .boxed()
    }

    fn busy_elsewhere(&self) -> f64 {
        self.server.busy()
    }

    fn end(&self, runtime: &Runtime) -> u64 {
        let (client, _) = self.free.connections.lock().pop().expect("nobody commits any more");
        let count = |table: &str| {
            let text = format!("select count(*) from {table}");
            let row = runtime.block_on(client.query_one(&text, &[])).expect("is counted");
            row.get::<_, i64>(0) as u64
        };
        assert_eq!(count("rows"), count("outbox"));
        count("rows")
    }
}

/// A running server, which ends with this value.
struct Server {
    programs: PathBuf,
    data: PathBuf,
    user: Option<(u32, u32)>,
}

impl Server {
    fn start(folder: &Path) -> Result<Self, String> {
        let programs = programs().ok_or_else(|| format!("PostgreSQL was not found under {PROGRAMS}"))?;
        let user = user(folder)?;
        if let Some((user, group)) = user {
            chown(folder, Some(user), Some(group)).map_err(|cause| format!("PostgreSQL: {cause}"))?;
        }
        let server = Self { programs, data: folder.join("data"), user };
        server.run("initdb", &["-U", "bench", "-A", "trust", "--no-locale", "-E", "UTF8", "-N"])?;
        let options = format!("-c listen_addresses= -c max_connections=80 -k {}", folder.display());
        let log = folder.join("log").display().to_string();
        server.run("pg_ctl", &["start", "-w", "-l", &log, "-o", &options])?;
        Ok(server)
    }

    /// Runs one of its programs on its data to the end.
    fn run(&self, program: &str, words: &[&str]) -> Result<(), String> {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-D").arg(&self.data).args(words).current_dir("/").stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // What it starts lives on, and must not hold our end of a pipe.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let Output { status, .. } = command.output().map_err(|cause| format!("PostgreSQL: {program}: {cause}"))?;
        status.success().then_some(()).ok_or_else(|| format!("PostgreSQL: {program} {words:?} ended with {status}"))
    }

    /// The microseconds of processor time of all its processes that live.
    fn busy(&self) -> f64 {
        let pid = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let pid = pid.lines().next().unwrap_or_default();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
        // The parent comes second behind the name.
        names
            .filter(|name| name == pid || stat(name).get(2).is_some_and(|of| of == pid))
            .map(|name| busy_of(&name))
            .sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may not have started.
        let _ = self.run("pg_ctl", &["stop", "-w", "-m", "immediate"]);
    }
}

/// The programs of the newest version there is.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(PROGRAMS).ok()?.flatten().map(|entry| entry.path().join("bin"));
    versions.filter(|path| path.join("initdb").exists()).max()
}

/// Who is to run it, if we may not: PostgreSQL refuses to run as root.
fn user(folder: &Path) -> Result<Option<(u32, u32)>, String> {
    let owner = fs::metadata(folder).map_err(|cause| format!("PostgreSQL: {cause}"))?.uid();
    if owner != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    found.map(Some).ok_or_else(|| "PostgreSQL does not run as root, and there is no other user".to_owned())
}
