//! Publishing files and folders.

use super::*;
use crate::Error;

#[test]
fn a_failed_write_leaves_the_old_file_and_no_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    write_text(&path, "old").unwrap();
    let failed = write_whole(&path, |out| {
        out.write_all(b"half")?;
        Err(std::io::ErrorKind::StorageFull.into())
    });
    assert!(failed.unwrap_err().to_string().contains("the disk is full"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_is_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    for text in ["one", "two"] {
        write_folder(&path, |inside| write_text(&inside.join("x"), text)).unwrap();
        assert_eq!(fs::read_to_string(path.join("x")).unwrap(), text);
    }
    write_folder(&path, |_| Err::<(), _>(Error::new("no"))).unwrap_err();
    assert_eq!(fs::read_to_string(path.join("x")).unwrap(), "two");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The names in a folder, hidden ones too; elsewhere than on Unix without the lock's file, which stays.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| cfg!(unix) || name != ".upstill-lock");
    names.sort();
    names
}

/// Accepts what is free and what `x` alone is in.
fn accept(path: &Path) -> Result<()> {
    match is_free(path)? || names(path).iter().all(|name| name == "x" || name.starts_with(".upstill-")) {
        true => Ok(()),
        false => Err(Error::new("somebody's own")),
    }
}

#[test]
fn neighbours_of_any_name_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["model.old~", ".model.part", ".model.v1.part"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("mine"), "mine").unwrap();
    }
    for name in ["model", "model.v1", "model.v2", "model"] {
        write_folder(&dir.path().join(name), |inside| write_text(&inside.join("x"), name)).unwrap();
        write_text(&dir.path().join("model.txt"), name).unwrap();
    }
    assert_eq!(names(dir.path()), [".model.part", ".model.v1.part", "model", "model.old~", "model.txt", "model.v1", "model.v2"]);
    for name in ["model.old~", ".model.part", ".model.v1.part"] {
        assert_eq!(fs::read_to_string(dir.path().join(name).join("mine")).unwrap(), "mine");
    }
}

#[test]
fn what_fails_is_called_by_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let full = |inside: &Path| write_whole(&inside.join("weights"), |_| Err(std::io::ErrorKind::StorageFull.into()));
    for error in [write_folder(&path, full).unwrap_err(), Target::take(&path, &accept).unwrap().write(full).unwrap_err()] {
        let said = error.to_string();
        assert!(said.starts_with(&format!("could not write {}: ", path.join("weights").display())), "{said}");
        assert!(said.contains("the disk is full"), "{said}");
        // Elsewhere the folder stays, as its lock's file does.
        assert!(names(dir.path()).is_empty() || cfg!(not(unix)) && names(&path).is_empty());
    }
}

#[test]
fn a_target_is_ours_before_the_work_and_looked_at_again_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/model");
    let write = |inside: &Path| write_text(&inside.join("x"), "new");
    let target = Target::take(&path, &accept).unwrap();
    assert!(Target::take(&path, &accept).err().unwrap().to_string().contains("another process"));
    target.write(write).unwrap();
    Target::take(&path, &accept).unwrap().write(write).unwrap();
    assert_eq!(names(&path), ["x"]);
    assert_eq!(names(path.parent().unwrap()), ["model"]);

    let late = Target::take(&path, &accept).unwrap();
    let refused = late.write(|inside| {
        fs::write(path.join("thesis.tex"), "mine").unwrap();
        write(inside)
    });
    assert!(refused.unwrap_err().to_string().contains("somebody's own"));
    assert_eq!(names(&path), ["thesis.tex", "x"]);
    Target::take(&path, &accept).err().unwrap();
    assert_eq!(names(&path), ["thesis.tex", "x"], "what is refused is not touched");

    if cfg!(not(unix)) {
        return; // a folder whose lock is open can't be removed
    }
    let gone = Target::take(&dir.path().join("gone"), &accept).unwrap();
    let refused = gone.write(|inside| {
        fs::remove_dir_all(dir.path().join("gone")).unwrap();
        write(inside)
    });
    assert!(refused.unwrap_err().to_string().contains("removed or replaced"));
    assert_eq!(names(dir.path()), ["deep"]);
}

#[test]
fn what_a_killed_process_began_within_a_folder_is_done() {
    // Killed before the old content goes, in the middle of it, and in the middle of the new content's coming.
    for (stage, there, waiting) in [
        ("ready", &["config.json", "x"][..], &["config.json", "y"][..]),
        ("ready", &["x"], &["config.json", "y"]),
        ("moving", &[], &["config.json", "y"]),
        ("moving", &["y"], &["config.json"]),
        ("moving", &["config.json", "y"], &[]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mounted");
        let left = path.join(format!(".upstill-4194999-0123456789abcdef.{stage}"));
        fs::create_dir_all(&left).unwrap();
        fs::create_dir(path.join("lost+found")).unwrap();
        there.iter().for_each(|name| fs::write(path.join(name), if stage == "ready" { "old" } else { "new" }).unwrap());
        waiting.iter().for_each(|name| fs::write(left.join(name), "new").unwrap());
        let seen = |path: &Path| match names(path).contains(&"config.json".to_owned()) {
            true => Err(Error::new("done already")),
            false => Ok(()),
        };
        assert_eq!(Target::take(&path, &seen).err().unwrap().what(), "done already");
        assert_eq!(names(&path), ["config.json", "lost+found", "y"], "{stage} {there:?} {waiting:?}");
        assert_eq!(fs::read_to_string(path.join("config.json")).unwrap(), "new");
    }
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    write_text(&at("real.txt"), "one").unwrap();
    fs::set_permissions(at("real.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("real.txt", at("link.txt")).unwrap();
    write_text(&at("link.txt"), "two").unwrap();
    assert_eq!(fs::read_to_string(at("real.txt")).unwrap(), "two");
    assert_eq!(fs::metadata(at("real.txt")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::create_dir(at("real")).unwrap();
    symlink("real", at("link")).unwrap();
    write_folder(&at("link"), |inside| write_text(&inside.join("x"), "two")).unwrap();
    assert_eq!(fs::read_to_string(at("real/x")).unwrap(), "two");
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink() && fs::symlink_metadata(at("link.txt")).unwrap().is_symlink());
    assert!(write_text(&at("real"), "text").unwrap_err().to_string().contains("this is a folder"));
}
