//! Readers are given damaged files: no panic, and where a checksum holds a file, no other content in silence. For
//! longer: `cargo xtask torture --only readers --minutes N`.

#[path = "../xtask/src/torture/damage.rs"]
mod damage;
#[path = "../fuzz/readers.rs"]
mod list;
#[path = "../xtask/src/torture/random.rs"]
mod random;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use damage::damage;
use list::{READERS, Scene};
use random::Random;

/// How long in all, the seed, and where the trial at hand is written: `SECONDS SEED FILE` in `UPSTILL_TORTURE`.
struct Settings {
    time: Duration,
    seed: u64,
    at: Option<PathBuf>,
}

impl Settings {
    fn asked() -> Self {
        let asked = std::env::var("UPSTILL_TORTURE").unwrap_or_default();
        let mut words = asked.splitn(3, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let seconds = word().map_or(8.0, |word| word.parse().unwrap());
        let seed = word().map_or(1, |word| word.parse().unwrap());
        Self { time: Duration::from_secs_f64(seconds), seed, at: word().map(PathBuf::from) }
    }
}

/// So much memory and no more, where this process does nothing else: what allocates by a number in a file meets it.
#[cfg(unix)]
fn limit_memory(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: it reads the struct that it is given.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
}

#[cfg(not(unix))]
fn limit_memory(_: u64) {}

#[test]
fn damaged_files_are_refused_or_read_as_they_were() {
    let settings = Settings::asked();
    if settings.at.is_some() {
        limit_memory(6 << 30);
    }
    let scene = Scene::new().unwrap();
    let share = settings.time / READERS.len() as u32;
    let mut bad = Vec::new();
    for reader in &READERS {
        let seeds = scene.seeds(reader);
        let whole: Vec<_> = seeds.iter().map(|seed| scene.read(reader, seed).map_err(|error| error.to_string())).collect();
        // A pickle of three tensors is no model; all else is whole.
        assert!(reader.name == "pickle" || whole.iter().all(Result::is_ok), "{}: {whole:?}", reader.name);
        let (started, mut random, mut tried, mut wrong, mut panics) = (Instant::now(), Random::new(settings.seed), 0, 0, 0);
        while tried < 20 || started.elapsed() < share {
            tried += 1;
            let which = random.below(seeds.len());
            let mut bytes = seeds[which].clone();
            for _ in 0..1 + random.below(4) {
                damage(&mut bytes, &mut random);
            }
            let what = format!("{}, trial {tried} of seed {}", reader.name, settings.seed);
            if let Some(at) = &settings.at {
                fs::write(at, &what).unwrap();
            }
            match catch_unwind(AssertUnwindSafe(|| scene.read(reader, &bytes))) {
                Err(_) => {
                    panics += 1;
                    bad.push(format!("{what}: a panic, by {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(2000)])));
                }
                Ok(Ok(found)) if reader.is_sealed && Ok(&found) != whole[which].as_ref() => {
                    wrong += 1;
                    bad.push(format!("{what}: other content in silence"));
                }
                Ok(_) => {}
            }
        }
        scene.read(reader, &seeds[0]).ok();
        println!("readers: {} tried {tried} wrong {wrong} panics {panics}", reader.name);
    }
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}
