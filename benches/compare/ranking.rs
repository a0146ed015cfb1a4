//! A board of scores beside other ways to keep one: increments, and what is read off it, alone and while increments run.
//!
//! Ten million weighted increments over half a million items, Zipf-distributed, into: a hash map alone (which ranks nothing:
//! the limit), a hash map that is selected from at each query, a `BTreeSet` with a hash map, `indexset` with a hash map,
//! Redis' sorted set over a unix socket, pipelined, and the board.
//! Every contender must answer the same top, page and rank, and hold the same sum.
//!
//! Redis is started from `redis-server`; where there is none it is installed by `apt-get`, and where that fails it is left out.
//! Arguments: increments, items, a word that the names of contenders must hold.
#![allow(missing_docs)]

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aftercommit::ranking::{Board, Score};
use parking_lot::{RwLock, RwLockWriteGuard};

type Map = HashMap<u64, i64, foldhash::fast::RandomState>;

/// What is asked for at each read.
const TOP: usize = 100;
const PAGE: usize = 100;

/// One way to keep scores in order.
trait Contender: Send + Sync {
    fn add_all(&mut self, increments: &[(u32, u32)]);
    fn top(&self) -> Vec<(u64, i64)>;
    fn page(&self, offset: usize) -> Vec<(u64, i64)>;
    fn rank(&self, item: u64) -> usize;
    fn len(&self) -> usize;
    /// How many reads of each kind are measured.
    fn reads(&self) -> usize {
        2_000
    }
    fn bytes(&self) -> Option<usize> {
        None
    }
}

impl Contender for Board<u64> {
    fn add_all(&mut self, increments: &[(u32, u32)]) {
        let mut items = [0; 64];
        for some in increments.chunks(items.len()) {
            some.iter().zip(&mut items).for_each(|((item, _), place)| *place = u64::from(*item));
            let additions = items.iter().zip(some).map(|(item, (_, weight))| (item, Score(i64::from(*weight))));
            Board::add_all(self, additions).expect("it fits");
        }
    }

    fn top(&self) -> Vec<(u64, i64)> {
        Board::top(self, TOP).into_iter().map(|one| (one.item, one.score.0)).collect()
    }

    fn page(&self, offset: usize) -> Vec<(u64, i64)> {
        Board::page(self, offset, PAGE).into_iter().map(|one| (one.item, one.score.0)).collect()
    }

    fn rank(&self, item: u64) -> usize {
        Board::rank(self, &item).expect("it is there")
    }

    fn len(&self) -> usize {
        Board::len(self)
    }

    fn bytes(&self) -> Option<usize> {
        Some(Board::bytes(self))
    }
}

/// A hash map; what is asked is selected from all of it.
struct Selected(Map);

impl Selected {
    fn best(&self, offset: usize, count: usize) -> Vec<(u64, i64)> {
        let mut all: Vec<(u64, i64)> = self.0.iter().map(|(item, score)| (*item, *score)).collect();
        let key = |one: &(u64, i64)| (Reverse(one.1), one.0);
        if offset > 0 && offset < all.len() {
            all.select_nth_unstable_by_key(offset, key);
        }
        let mut all = all.split_off(offset.min(all.len()));
        if count < all.len() {
            all.select_nth_unstable_by_key(count, key);
            all.truncate(count);
        }
        all.sort_unstable_by_key(key);
        all
    }
}

impl Contender for Selected {
    fn add_all(&mut self, increments: &[(u32, u32)]) {
        for (item, weight) in increments {
            *self.0.entry(u64::from(*item)).or_default() += i64::from(*weight);
        }
    }

    fn top(&self) -> Vec<(u64, i64)> {
        self.best(0, TOP)
    }

    fn page(&self, offset: usize) -> Vec<(u64, i64)> {
        self.best(offset, PAGE)
    }

    fn rank(&self, item: u64) -> usize {
        let own = (Reverse(self.0[&item]), item);
        self.0.iter().filter(|(item, score)| (Reverse(**score), **item) < own).count()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn reads(&self) -> usize {
        40
    }
}

/// An ordered set and a hash map.
#[derive(Default)]
struct Tree {
    scores: Map,
    order: BTreeSet<(Reverse<i64>, u64)>,
}

impl Contender for Tree {
    fn add_all(&mut self, increments: &[(u32, u32)]) {
        for (item, weight) in increments {
            let item = u64::from(*item);
            let score = self.scores.entry(item).or_default();
            self.order.remove(&(Reverse(*score), item));
            *score += i64::from(*weight);
            self.order.insert((Reverse(*score), item));
        }
    }

    fn top(&self) -> Vec<(u64, i64)> {
        self.order.iter().take(TOP).map(|(score, item)| (*item, score.0)).collect()
    }

    fn page(&self, offset: usize) -> Vec<(u64, i64)> {
        self.order.iter().skip(offset).take(PAGE).map(|(score, item)| (*item, score.0)).collect()
    }

    fn rank(&self, item: u64) -> usize {
        self.order.range(..(Reverse(self.scores[&item]), item)).count()
    }

    fn len(&self) -> usize {
        self.scores.len()
    }

    fn reads(&self) -> usize {
        100
    }
}

/// A set that knows places, and a hash map.
#[derive(Default)]
struct Indexed {
    scores: Map,
    order: indexset::BTreeSet<(Reverse<i64>, u64)>,
}

impl Contender for Indexed {
    fn add_all(&mut self, increments: &[(u32, u32)]) {
        for (item, weight) in increments {
            let item = u64::from(*item);
            let score = self.scores.entry(item).or_default();
            self.order.remove(&(Reverse(*score), item));
            *score += i64::from(*weight);
            self.order.insert((Reverse(*score), item));
        }
    }

    fn top(&self) -> Vec<(u64, i64)> {
        self.order.iter().take(TOP).map(|(score, item)| (*item, score.0)).collect()
    }

    fn page(&self, offset: usize) -> Vec<(u64, i64)> {
        (offset..(offset + PAGE).min(self.order.len()))
            .filter_map(|place| self.order.get_index(place))
            .map(|(score, item)| (*item, score.0))
            .collect()
    }

    fn rank(&self, item: u64) -> usize {
        self.order.rank(&(Reverse(self.scores[&item]), item))
    }

    fn len(&self) -> usize {
        self.scores.len()
    }
}

/// How many commands Redis is sent before its answers are read.
const PIPELINE: usize = 1_000;

/// Redis, on a unix socket. Its best-first lists have the higher of equal members first, so that scores alone are compared.
struct Redis {
    server: Child,
    socket: RwLock<BufReader<UnixStream>>,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
        let path = folder.path().join("redis");
        let server = start_redis(&path).or_else(|_| {
            install_redis()?;
            start_redis(&path)
        })?;
        let begun = Instant::now();
        loop {
            match UnixStream::connect(&path) {
                Ok(socket) => {
                    let socket = RwLock::new(BufReader::with_capacity(1 << 16, socket));
                    return Ok(Self { server, socket, _folder: folder });
                }
                Err(cause) if begun.elapsed() > Duration::from_secs(10) => return Err(cause.to_string()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn send(socket: &mut BufReader<UnixStream>, commands: &[Vec<String>]) {
        let mut text = String::new();
        for words in commands {
            text.push_str(&format!("*{}\r\n", words.len()));
            for word in words {
                text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
            }
        }
        socket.get_mut().write_all(text.as_bytes()).expect("redis listens");
    }

    fn answer(socket: &mut BufReader<UnixStream>) -> Vec<String> {
        let mut line = String::new();
        socket.read_line(&mut line).expect("redis answers");
        let line = line.trim_end();
        match line.as_bytes().first() {
            Some(b'*') => {
                let count: usize = line[1..].parse().expect("a number");
                (0..count).flat_map(|_| Self::answer(socket)).collect()
            }
            Some(b'$') => {
                let mut text = vec![0; line[1..].parse::<usize>().expect("a number") + 2];
                socket.read_exact(&mut text).expect("redis answers");
                text.truncate(text.len() - 2);
                vec![String::from_utf8(text).expect("text")]
            }
            Some(b':') => vec![line[1..].to_owned()],
            _ => panic!("redis says {line}"),
        }
    }

    fn ask(&self, words: &[&str]) -> Vec<String> {
        let mut socket = self.socket.write();
        Self::send(&mut socket, &[words.iter().map(|word| (*word).to_owned()).collect()]);
        Self::answer(&mut socket)
    }

    fn between(&self, from: usize, to: usize) -> Vec<(u64, i64)> {
        let answer = self.ask(&["ZREVRANGE", "board", &from.to_string(), &to.to_string(), "WITHSCORES"]);
        let number = |text: &String| text.parse::<f64>().expect("a number");
        answer.chunks(2).map(|pair| (number(&pair[0]) as u64, number(&pair[1]) as i64)).collect()
    }
}

fn start_redis(socket: &Path) -> Result<Child, String> {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(socket)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|cause| format!("no redis-server: {cause}"))
}

fn install_redis() -> Result<(), String> {
    let installed = Command::new("apt-get").args(["install", "-y", "redis-server"]).stdout(Stdio::null()).status();
    match installed {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("no redis-server, and none could be installed: {other:?}")),
    }
}

impl Contender for Redis {
    fn add_all(&mut self, increments: &[(u32, u32)]) {
        let mut socket = self.socket.write();
        for chunk in increments.chunks(PIPELINE) {
            // What a client would send, written without a copy for each word.
            let mut text = Vec::with_capacity(chunk.len() * 64);
            for (item, weight) in chunk {
                let (item, weight) = (item.to_string(), weight.to_string());
                let (item_len, weight_len) = (item.len(), weight.len());
                write!(
                    text,
                    "*4\r\n$7\r\nZINCRBY\r\n$5\r\nboard\r\n${weight_len}\r\n{weight}\r\n${item_len}\r\n{item}\r\n"
                )
                .expect("memory");
            }
            socket.get_mut().write_all(&text).expect("redis listens");
            for _ in chunk {
                let mut line = [0; 64];
                // `$<length>\r\n<score>\r\n`, twice up to the line's end.
                for _ in 0..2 {
                    let mut at = 0;
                    while at < 2 || line[at - 2..at] != *b"\r\n" {
                        socket.read_exact(&mut line[at..=at]).expect("redis answers");
                        at += 1;
                    }
                }
            }
        }
    }

    fn top(&self) -> Vec<(u64, i64)> {
        self.between(0, TOP - 1)
    }

    fn page(&self, offset: usize) -> Vec<(u64, i64)> {
        self.between(offset, offset + PAGE - 1)
    }

    fn rank(&self, item: u64) -> usize {
        self.ask(&["ZREVRANK", "board", &item.to_string()])[0].parse().expect("a number")
    }

    fn len(&self) -> usize {
        self.ask(&["ZCARD", "board"])[0].parse().expect("a number")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Increments of items by a Zipf distribution (exponent 1), spread over the numbers; weights of 1, 2 and 7.
fn increments(count: usize, items: usize) -> Vec<(u32, u32)> {
    let mut total = 0.0;
    let sums: Vec<f64> = (1..=items)
        .map(|rank| {
            total += 1.0 / rank as f64;
            total
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    (0..count)
        .map(|_| {
            let drawn = random.f64() * total;
            let rank = sums.partition_point(|sum| *sum < drawn) as u64;
            let weight = [1, 1, 1, 1, 1, 1, 1, 2, 2, 7][random.usize(..10)];
            ((rank.wrapping_mul(2_654_435_761) % (1 << 32)) as u32, weight)
        })
        .collect()
}

/// The middle and the 99th of a hundred, in microseconds.
fn micros(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    (at(50), at(99))
}

fn timed(count: usize, mut read: impl FnMut()) -> (f64, f64) {
    micros(
        (0..count)
            .map(|_| {
                let begun = Instant::now();
                read();
                begun.elapsed()
            })
            .collect(),
    )
}

/// Reads for a second, with a pause after each, as pages are asked for.
fn spaced(mut read: impl FnMut()) -> (f64, f64) {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_micros(500));
        let asked = Instant::now();
        read();
        times.push(asked.elapsed());
    }
    micros(times)
}

fn show((middle, late): (f64, f64)) -> String {
    let digits = |micros: f64| if micros < 10.0 { format!("{micros:.2}") } else { format!("{micros:.0}") };
    format!("{} / {}", digits(middle), digits(late))
}

/// What all must answer alike: the scores of the top and of the page.
type Answers = (usize, Vec<i64>, Vec<i64>);

fn measure(name: &str, mut contender: impl Contender + 'static, load: &[(u32, u32)], expected: &mut Option<Answers>) {
    let begun = Instant::now();
    // As events come: some at a time.
    load.chunks(64 * PIPELINE).for_each(|chunk| contender.add_all(chunk));
    let rate = load.len() as f64 / begun.elapsed().as_secs_f64() / 1e6;
    let items = contender.len();
    let deep = items / 2;
    let scores = |page: Vec<(u64, i64)>| page.into_iter().map(|one| one.1).collect::<Vec<_>>();
    let answers = (items, scores(contender.top()), scores(contender.page(deep)));
    assert_eq!(*expected.get_or_insert_with(|| answers.clone()), answers, "{name} answers what others do");
    let mut random = fastrand::Rng::with_seed(9);
    let mut any = move || u64::from(load[random.usize(..load.len())].0);
    let reads = contender.reads();
    let all = |contender: &dyn Contender, any: &mut dyn FnMut() -> u64| {
        let top = timed(reads, || drop(std::hint::black_box(contender.top())));
        let page = timed(reads, || drop(std::hint::black_box(contender.page(deep))));
        let rank = timed(reads, || drop(std::hint::black_box(contender.rank(any()))));
        format!("{} | {} | {}", show(top), show(page), show(rank))
    };
    let alone = all(&contender, &mut any);
    let bytes = contender.bytes().map_or(String::new(), |bytes| format!("{:.0}", bytes as f64 / items as f64));
    let shared = RwLock::new(contender);
    let stop = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        scope.spawn(|| {
            for chunk in load.chunks(64).cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let mut contender = shared.write();
                contender.add_all(chunk);
                // To whoever waits, as a reader would wait for long behind one who comes back at once.
                RwLockWriteGuard::unlock_fair(contender);
            }
        });
        let top = spaced(|| drop(std::hint::black_box(shared.read().top())));
        let page = spaced(|| drop(std::hint::black_box(shared.read().page(deep))));
        let rank = spaced(|| drop(std::hint::black_box(shared.read().rank(any()))));
        stop.store(true, Ordering::Relaxed);
        format!("{} | {} | {}", show(top), show(page), show(rank))
    });
    println!("| {name} | {rate:.2} | {alone} | {beside} | {bytes} |");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number =
        |place: usize, default: usize| arguments.get(place).map_or(default, |word| word.parse().expect("a number"));
    let (count, items) = (number(0, 10_000_000), number(1, 500_000));
    let wanted = arguments.get(2).cloned().unwrap_or_default();
    let load = increments(count, items);
    let mut expected = None;
    let begun = Instant::now();
    let mut limit = Selected(Map::default());
    limit.add_all(&load);
    println!(
        "{count} increments over {} items; a hash map alone: {:.1} million a second. Microseconds: middle / 99th of 100.\n",
        limit.len(),
        count as f64 / begun.elapsed().as_secs_f64() / 1e6
    );
    drop(limit);
    println!(
        "| | million/s | top {TOP} | page in the middle | rank | top {TOP}, beside increments | page | rank | bytes an item |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let chosen = |name: &str| name.contains(&wanted);
    if chosen("board") {
        measure("board", Board::<u64>::new(), &load, &mut expected);
    }
    if chosen("hash map, selected") {
        measure("hash map, selected", Selected(Map::default()), &load, &mut expected);
    }
    if chosen("BTreeSet, hash map") {
        measure("BTreeSet, hash map", Tree::default(), &load, &mut expected);
    }
    if chosen("indexset, hash map") {
        measure("indexset, hash map", Indexed::default(), &load, &mut expected);
    }
    if chosen("Redis") {
        match Redis::start() {
            Ok(redis) => measure("Redis, pipelined", redis, &load, &mut expected),
            Err(reason) => println!("| Redis: {reason} |"),
        }
    }
}
