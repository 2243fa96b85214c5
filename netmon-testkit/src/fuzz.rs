//! What fuzzing runs, as ordinary tests: the whole corpus of a target, and inputs made of it, the same in every run.
//!
//! `./x fuzz` looks for inputs that lead elsewhere, with a compiler that ordinary builds do not have; here is what any
//! build can do in a second. `NETMON_FUZZ_RUNS` makes more inputs, `NETMON_FUZZ_SEED` others.

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
};

/// The inputs that are made where nobody says how many.
const RUNS: u64 = 400;
const SEED: u64 = 0x6e65_746d_6f6e;
/// As long as libFuzzer makes inputs by itself.
const LONGEST: usize = 4096;

/// Gives `run` every input of the target's corpus, `fuzz/corpus/TARGET`, and inputs made of these. What it may not do is
/// panic; the input at which it does is kept, and told.
///
/// # Panics
/// As `run` does; where there is no corpus; for a variable that is no number.
pub fn try_inputs(target: &str, run: impl Fn(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "there is no corpus of {target}: nothing was tried");
    for (path, input) in &corpus {
        let _told = Told { target, input, place: path.display().to_string() };
        run(input);
    }
    let (runs, seed) = (number("NETMON_FUZZ_RUNS", RUNS), number("NETMON_FUZZ_SEED", SEED));
    let mut random = Random((seed ^ SEED.rotate_left(32)) | 1);
    for count in 0..runs {
        let input = mutated(&corpus, &mut random);
        let _told =
            Told { target, input: &input, place: format!("input {count} of NETMON_FUZZ_SEED={seed}") };
        run(&input);
    }
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // The same inputs are made wherever this runs.
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("an input"))).collect()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{variable} is {text:?}: {error}")),
        Err(_) => otherwise,
    }
}

/// Says at which input a panic was, and keeps it for `./x fuzz TARGET FILE`.
struct Told<'a> {
    target: &'a str,
    input: &'a [u8],
    place: String,
}

impl Drop for Told<'_> {
    #[allow(clippy::print_stderr, reason = "a test speaks to whoever runs it")]
    fn drop(&mut self) {
        if thread::panicking() {
            let kept = env::temp_dir().join(format!("netmon-fuzz-{}-{}", self.target, std::process::id()));
            let kept = fs::write(&kept, self.input).map(|()| kept.display().to_string());
            eprintln!(
                "{} panicked at {}: {}\nkept as {}",
                self.target,
                self.place,
                self.input.escape_ascii(),
                kept.unwrap_or_else(|error| format!("nothing: {error}")),
            );
        }
    }
}

/// Xorshift: the same numbers everywhere, for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than this; 0 for 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[3]
    }

    fn part<'a>(&mut self, of: &'a [u8]) -> &'a [u8] {
        let start = self.below(of.len());
        let length = self.below(of.len() - start + 1);
        &of[start..start + length]
    }
}

/// What is often the one too many, in texts and in records.
const EDGES: [&[u8]; 14] = [
    b"0",
    b"-1",
    b"1e308",
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"null",
    b"\"\"",
    "\u{202e}\u{10ffff}\u{e9}".as_bytes(),
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x80",
    b"\n",
    b"\xff",
];

fn mutated(corpus: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].1.clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = at + random.below((input.len() - at).min(64) + 1);
        match random.below(8) {
            0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => input[at] = random.byte(),
            3 => drop(input.drain(at..end)),
            4 => drop(input.splice(at..end, EDGES[random.below(EDGES.len())].iter().copied())),
            5 => {
                // A whole number of a text becomes another one.
                let digits = input[at..].iter().position(u8::is_ascii_digit).map_or(at, |first| at + first);
                let length = input[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let edge = EDGES[random.below(EDGES.len())].iter().copied();
                drop(input.splice(digits..digits + length, edge));
            }
            6 => {
                let part = random.part(&input).to_vec();
                drop(input.splice(at..at, part));
            }
            _ => {
                let other = random.below(corpus.len());
                let part = random.part(&corpus[other].1);
                drop(input.splice(at..end, part.iter().copied()));
            }
        }
    }
    input.truncate(LONGEST.max(corpus.iter().map(|(_, input)| input.len()).max().unwrap_or(0)));
    input
}
