//! What every target shares.

pub mod readers;

/// A target: a reader, by its name, given what cargo-fuzz draws.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        use std::cell::LazyCell;

        thread_local!(static SCENE: LazyCell<$crate::readers::Scene> =
            LazyCell::new(|| $crate::readers::Scene::new().expect("a scratch folder can be written")));

        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            let reader = $crate::readers::find_reader($name);
            SCENE.with(|scene| drop(scene.read(reader, bytes)));
        });
    };
}
