//! sled's snapshots, kept through an opening that is cut short.
//!
//! While it opens, sled writes a snapshot under a new name, removes the old one, and clears segments that it then cannot do without
//! the new one; none of that is synced. After a power cut there may be neither, and sled would take the store for empty.
//! So the snapshots are copied before sled opens, put back if there are none, and removed once the new one is on the disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::adapters::disk::sync_folder;
use crate::error::StoreError;

const SNAPSHOT: &str = "snap.";
const HALF_WRITTEN: &str = ".generating";
/// What a copy is called, so that sled does not see it.
const KEPT: &str = "kept.snap.";

/// Before sled opens: clears what a crash left half-written, with which sled would never open, and keeps the snapshots there are.
pub(super) fn keep(folder: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::backend("keep sled's snapshot", cause);
    let names = match names_in(folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names.map_err(failed)?,
    };
    for name in names.iter().filter(|name| name.starts_with(SNAPSHOT) && name.ends_with(HALF_WRITTEN)) {
        fs::remove_file(folder.join(name)).map_err(failed)?;
    }
    let snapshots: Vec<&String> =
        names.iter().filter(|name| name.starts_with(SNAPSHOT) && !name.ends_with(HALF_WRITTEN)).collect();
    if snapshots.is_empty() {
        for kept in names.iter().filter(|name| name.starts_with(KEPT)) {
            let name = kept.replacen(KEPT, SNAPSHOT, 1);
            let half_written = folder.join(format!("{name}{HALF_WRITTEN}"));
            copy(&folder.join(kept), &half_written).map_err(failed)?;
            fs::rename(&half_written, folder.join(name)).map_err(failed)?;
        }
        return sync_folder(folder);
    }
    forget(folder)?;
    for name in snapshots {
        copy(&folder.join(name), &folder.join(name.replacen(SNAPSHOT, KEPT, 1))).map_err(failed)?;
    }
    sync_folder(folder)
}

/// Once sled is open, before anything is synced into it: its snapshot is on the disk, and no copy is needed.
pub(super) fn release(folder: &Path) -> Result<(), StoreError> {
    sync_folder(folder)?;
    forget(folder)
}

fn forget(folder: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::backend("remove a copy of sled's snapshot", cause);
    for name in names_in(folder).map_err(failed)?.iter().filter(|name| name.starts_with(KEPT)) {
        fs::remove_file(folder.join(name)).map_err(failed)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::create(to)?;
    file.write_all(&fs::read(from)?)?;
    file.sync_all()
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    // sled's own names are text; others are none of ours.
    Ok(names.collect::<io::Result<Vec<OsString>>>()?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SNAP: &str = "snap.0000000000000010";
    const KEPT_OF_IT: &str = "kept.snap.0000000000000010";
    const NEWER: &str = "snap.0000000000000020";

    /// A folder as sled leaves it: its data, and these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("db", "data"), ("conf", "what sled was told")].iter().chain(files) {
            fs::write(folder.path().join(name), text).expect("writes");
        }
        fs::create_dir(folder.path().join("blobs")).expect("makes");
        folder
    }

    /// What is in it now beside sled's data, which is as it was.
    fn left(folder: &tempfile::TempDir) -> BTreeMap<String, String> {
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("reads");
        assert_eq!((read("db"), read("conf")), ("data".to_owned(), "what sled was told".to_owned()));
        let names = names_in(folder.path()).expect("reads");
        let names = names.into_iter().filter(|name| !["db", "conf", "blobs"].contains(&&**name));
        names.map(|name| (name.clone(), read(&name))).collect()
    }

    fn are(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn before_the_first_opening_there_is_nothing_to_keep() {
        let nowhere = tempfile::tempdir().expect("a folder");
        keep(&nowhere.path().join("sled")).expect("nothing to do");
        assert!(!nowhere.path().join("sled").exists());
    }

    #[test]
    fn a_snapshot_is_kept_until_sled_is_open_and_no_longer() {
        let folder = folder(&[(SNAP, "whole")]);
        keep(folder.path()).expect("keeps");
        assert_eq!(left(&folder), are(&[(SNAP, "whole"), (KEPT_OF_IT, "whole")]));
        release(folder.path()).expect("releases");
        assert_eq!(left(&folder), are(&[(SNAP, "whole")]));
    }

    #[test]
    fn a_half_written_snapshot_goes_and_the_whole_one_beside_it_is_kept() {
        let folder = folder(&[(SNAP, "whole"), ("snap.0000000000000020.generating", "ha")]);
        keep(folder.path()).expect("keeps");
        assert_eq!(left(&folder), are(&[(SNAP, "whole"), (KEPT_OF_IT, "whole")]));
    }

    #[test]
    fn an_opening_that_was_cut_short_without_a_snapshot_gets_back_the_one_before() {
        // sled had removed the old one, and its new one was not whole, or did not reach the disk.
        for torn in [&[][..], &[("snap.0000000000000020.generating", "ha")]] {
            let folder = folder(&[&[(KEPT_OF_IT, "whole")], torn].concat());
            keep(folder.path()).expect("keeps");
            assert_eq!(left(&folder), are(&[(SNAP, "whole"), (KEPT_OF_IT, "whole")]));
            release(folder.path()).expect("releases");
            assert_eq!(left(&folder), are(&[(SNAP, "whole")]));
        }
    }

    #[test]
    fn an_opening_that_was_cut_short_after_its_snapshot_goes_on_with_that() {
        let folder = folder(&[(NEWER, "newer"), (KEPT_OF_IT, "older")]);
        keep(folder.path()).expect("keeps");
        assert_eq!(left(&folder), are(&[(NEWER, "newer"), ("kept.snap.0000000000000020", "newer")]));
    }

    #[test]
    fn keeping_that_was_itself_cut_short_is_done_again() {
        // While the copy was written: the snapshot still stands, and only it counts.
        let copying = folder(&[(SNAP, "whole"), (KEPT_OF_IT, "wh")]);
        keep(copying.path()).expect("keeps");
        assert_eq!(left(&copying), are(&[(SNAP, "whole"), (KEPT_OF_IT, "whole")]));
        // While it was put back: that is written under a name of its own, and the copy still stands.
        let putting_back = folder(&[(KEPT_OF_IT, "whole"), ("snap.0000000000000010.generating", "wh")]);
        keep(putting_back.path()).expect("keeps");
        assert_eq!(left(&putting_back), are(&[(SNAP, "whole"), (KEPT_OF_IT, "whole")]));
    }

    #[test]
    fn keeping_twice_is_keeping_once() {
        let folder = folder(&[(SNAP, "whole")]);
        keep(folder.path()).expect("keeps");
        let once = left(&folder);
        keep(folder.path()).expect("keeps");
        assert_eq!(left(&folder), once);
    }

    #[test]
    fn a_snapshot_that_cannot_be_copied_is_told_and_stays() {
        let folder = folder(&[(KEPT_OF_IT, "older")]);
        // A folder of a snapshot's name cannot be read as a file.
        fs::create_dir(folder.path().join(NEWER)).expect("makes");
        let told = keep(folder.path()).expect_err("it is no file").to_string();
        assert!(told.contains("keep sled's snapshot"), "{told}");
        assert!(folder.path().join(NEWER).exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_that_is_no_text_is_none_of_ours() {
        use std::os::unix::ffi::OsStringExt;
        let folder = folder(&[(SNAP, "whole")]);
        let foreign = folder.path().join(OsString::from_vec(b"snap.\xff".to_vec()));
        fs::write(&foreign, "foreign").expect("writes");
        keep(folder.path()).expect("keeps");
        release(folder.path()).expect("releases");
        assert_eq!(fs::read_to_string(foreign).expect("reads"), "foreign");
    }
}
