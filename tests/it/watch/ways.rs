//! The ways in which people and tools write files.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "helpers of tests are tests")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// A way of writing: prepares a folder, returns what is watched and which file is read, and writes rounds 1 and 2.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) watched: &'static str,
    pub(super) read: &'static str,
    pub(super) prepare: fn(&Path),
    pub(super) write: fn(&Path, &str),
}

pub(super) fn text(round: &str) -> String {
    format!("round: {round}\n")
}

pub(super) fn put(path: impl AsRef<Path>, round: &str) {
    fs::write(path, text(round)).unwrap();
}

pub(super) fn run(folder: &Path, script: &str) {
    let status = Command::new("sh").arg("-ec").arg(script).current_dir(folder).status().unwrap();
    assert!(status.success(), "{script}");
}

pub(super) fn plain(folder: &Path) {
    put(folder.join("weir.yaml"), "0");
}

pub(super) fn relink(folder: &Path, target: &str, link: &str) {
    symlink(target, folder.join("link.new")).unwrap();
    fs::rename(folder.join("link.new"), folder.join(link)).unwrap();
}

/// Lays a `ConfigMap` out as a kubelet does.
fn mount_config_map(folder: &Path) {
    fs::create_dir(folder.join("..2024_0")).unwrap();
    put(folder.join("..2024_0/weir.yaml"), "0");
    symlink("..2024_0", folder.join("..data")).unwrap();
    symlink("..data/weir.yaml", folder.join("weir.yaml")).unwrap();
}

/// Updates it as a kubelet does: a new directory, one renamed link, the old directory removed.
fn update_config_map(folder: &Path, round: &str) {
    let old = fs::read_link(folder.join("..data")).unwrap();
    let new = format!("..2024_{round}");
    fs::create_dir(folder.join(&new)).unwrap();
    put(folder.join(&new).join("weir.yaml"), round);
    symlink(&new, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    fs::remove_dir_all(folder.join(old)).unwrap();
}

fn prepare_releases(folder: &Path) {
    for round in ["0", "1", "2"] {
        fs::create_dir_all(folder.join(round).join("conf")).unwrap();
        put(folder.join(round).join("conf/weir.yaml"), round);
    }
    symlink("0", folder.join("current")).unwrap();
}

const fn row(
    name: &'static str,
    watched: &'static str,
    read: &'static str,
    prepare: fn(&Path),
    write: fn(&Path, &str),
) -> Row {
    Row { name, watched, read, prepare, write }
}

/// The ways.
pub(super) const ROWS: &[Row] = &[
    row("in place, cut at opening", "weir.yaml", "weir.yaml", plain, |folder, round| {
        put(folder.join("weir.yaml"), round);
    }),
    row("in place, not cut", "weir.yaml", "weir.yaml", plain, |folder, round| {
        let mut file = OpenOptions::new().write(true).open(folder.join("weir.yaml")).unwrap();
        file.write_all(text(round).as_bytes()).unwrap();
    }),
    row("cut and closed, then written", "weir.yaml", "weir.yaml", plain, |folder, round| {
        File::create(folder.join("weir.yaml")).unwrap();
        put(folder.join("weir.yaml"), round);
    }),
    row("renamed over", "weir.yaml", "weir.yaml", plain, |folder, round| {
        put(folder.join("weir.yaml.new"), round);
        fs::rename(folder.join("weir.yaml.new"), folder.join("weir.yaml")).unwrap();
    }),
    row(
        "renamed over from another folder",
        "conf/weir.yaml",
        "conf/weir.yaml",
        |folder| {
            fs::create_dir(folder.join("conf")).unwrap();
            plain(&folder.join("conf"));
        },
        |folder, round| {
            put(folder.join("new"), round);
            fs::rename(folder.join("new"), folder.join("conf/weir.yaml")).unwrap();
        },
    ),
    row("deleted and made again", "weir.yaml", "weir.yaml", plain, |folder, round| {
        fs::remove_file(folder.join("weir.yaml")).unwrap();
        put(folder.join("weir.yaml"), round);
    }),
    row("deleted, and made again later", "weir.yaml", "weir.yaml", plain, |folder, round| {
        run(folder, &format!("rm weir.yaml; sleep 0.3; echo 'round: {round}' > weir.yaml"));
    }),
    row("ConfigMap, file watched", "weir.yaml", "weir.yaml", mount_config_map, update_config_map),
    row("ConfigMap, folder watched", ".", "weir.yaml", mount_config_map, update_config_map),
    row(
        "link re-pointed by a rename",
        "weir.yaml",
        "weir.yaml",
        |folder| {
            prepare_releases(folder);
            symlink("0/conf/weir.yaml", folder.join("weir.yaml")).unwrap();
        },
        |folder, round| relink(folder, &format!("{round}/conf/weir.yaml"), "weir.yaml"),
    ),
    row(
        "link re-pointed by ln -sfn",
        "weir.yaml",
        "weir.yaml",
        |folder| {
            prepare_releases(folder);
            symlink("0/conf/weir.yaml", folder.join("weir.yaml")).unwrap();
        },
        |folder, round| run(folder, &format!("ln -sfn {round}/conf/weir.yaml weir.yaml")),
    ),
    row(
        "link in a parent folder re-pointed",
        "current/conf/weir.yaml",
        "current/conf/weir.yaml",
        prepare_releases,
        |folder, round| relink(folder, round, "current"),
    ),
    row(
        "link in a parent re-pointed, folder watched",
        "current/conf",
        "current/conf/weir.yaml",
        prepare_releases,
        |folder, round| relink(folder, round, "current"),
    ),
    row(
        "link amid a chain re-pointed",
        "etc/weir.yaml",
        "etc/weir.yaml",
        |folder| {
            prepare_releases(folder);
            fs::create_dir(folder.join("etc")).unwrap();
            fs::create_dir(folder.join("middle")).unwrap();
            symlink("../middle/weir.yaml", folder.join("etc/weir.yaml")).unwrap();
            symlink(folder.join("current/conf/weir.yaml"), folder.join("middle/weir.yaml")).unwrap();
        },
        |folder, round| {
            let target = folder.join(round).join("conf/weir.yaml");
            relink(folder, target.to_str().unwrap(), "middle/weir.yaml");
        },
    ),
    row(
        "a link's target written in place",
        "weir.yaml",
        "weir.yaml",
        |folder| {
            prepare_releases(folder);
            symlink("0/conf/weir.yaml", folder.join("weir.yaml")).unwrap();
        },
        |folder, round| put(folder.join("0/conf/weir.yaml"), round),
    ),
    row(
        "a link's target renamed over",
        "weir.yaml",
        "weir.yaml",
        |folder| {
            prepare_releases(folder);
            symlink("0/conf/weir.yaml", folder.join("weir.yaml")).unwrap();
        },
        |folder, round| {
            put(folder.join("new"), round);
            fs::rename(folder.join("new"), folder.join("0/conf/weir.yaml")).unwrap();
        },
    ),
    row(
        "folder renamed away, another in its place",
        "0/conf",
        "0/conf/weir.yaml",
        prepare_releases,
        |folder, round| {
            fs::rename(folder.join("0/conf"), folder.join("0/old")).unwrap();
            fs::rename(folder.join(round).join("conf"), folder.join("0/conf")).unwrap();
            fs::remove_dir_all(folder.join("0/old")).unwrap();
        },
    ),
    row(
        "folder of a file replaced",
        "0/conf/weir.yaml",
        "0/conf/weir.yaml",
        prepare_releases,
        |folder, round| {
            fs::rename(folder.join("0/conf"), folder.join(format!("old{round}"))).unwrap();
            fs::rename(folder.join(round).join("conf"), folder.join("0/conf")).unwrap();
        },
    ),
    row(
        "folder above the folder replaced",
        "0/conf/weir.yaml",
        "0/conf/weir.yaml",
        prepare_releases,
        |folder, round| {
            fs::rename(folder.join("0"), folder.join(format!("old{round}"))).unwrap();
            fs::rename(folder.join(round), folder.join("0")).unwrap();
        },
    ),
    row("folder deleted and made again", "0/conf", "0/conf/weir.yaml", prepare_releases, |folder, round| {
        fs::remove_dir_all(folder.join("0")).unwrap();
        fs::create_dir_all(folder.join("0/conf")).unwrap();
        put(folder.join("0/conf/weir.yaml"), round);
    }),
    row(
        "file that did not exist",
        "weir.yaml",
        "weir.yaml",
        |_| {},
        |folder, round| {
            put(folder.join("weir.yaml"), round);
        },
    ),
    row(
        "file whose folders did not exist",
        "a/b/weir.yaml",
        "a/b/weir.yaml",
        |_| {},
        |folder, round| {
            fs::create_dir_all(folder.join("a/b")).unwrap();
            put(folder.join("a/b/weir.yaml"), round);
        },
    ),
    row("another file in the folder", ".", "1.yaml", plain, |folder, round| {
        put(folder.join("1.yaml"), round);
    }),
    row("file gone, and there again", "weir.yaml", "", plain, |folder, _| {
        run(folder, "if [ -e weir.yaml ]; then rm weir.yaml; else echo 1 > weir.yaml; fi");
    }),
    row(
        "file of the folder gone",
        ".",
        "",
        |folder| run(folder, "echo 1 > 1.yaml; echo 2 > 2.yaml"),
        |folder, round| fs::remove_file(folder.join(format!("{round}.yaml"))).unwrap(),
    ),
    row(
        "written under another name, as through a bind mount",
        "a/weir.yaml",
        "a/weir.yaml",
        |folder| {
            run(folder, "mkdir a b; echo 'round: 0' > a/weir.yaml; ln a/weir.yaml b/host.yaml");
        },
        |folder, round| put(folder.join("b/host.yaml"), round),
    ),
    row("vim: backup by rename, new file", "weir.yaml", "weir.yaml", plain, |folder, round| {
        run(
            folder,
            &format!(
                "echo > 4913; rm 4913; echo x > .weir.yaml.swp; mv weir.yaml weir.yaml~; \
            echo 'round: {round}' > weir.yaml; chmod 644 weir.yaml; rm weir.yaml~ .weir.yaml.swp"
            ),
        );
    }),
    row("emacs: lock link, backup by copy", ".", "weir.yaml", plain, |folder, round| {
        run(
            folder,
            &format!(
                "ln -s me@host.1:2 .#weir.yaml; cp -p weir.yaml weir.yaml~; \
            echo 'round: {round}' > weir.yaml; rm .#weir.yaml"
            ),
        );
    }),
    row("sed -i", "weir.yaml", "weir.yaml", plain, |folder, round| {
        run(folder, &format!("sed -i 's/round: .*/round: {round}/' weir.yaml"));
    }),
    row("cp", "weir.yaml", "weir.yaml", prepare_releases_and_plain, |folder, round| {
        run(folder, &format!("cp {round}/conf/weir.yaml weir.yaml"));
    }),
    row("mv", "weir.yaml", "weir.yaml", prepare_releases_and_plain, |folder, round| {
        run(folder, &format!("mv {round}/conf/weir.yaml weir.yaml"));
    }),
    row("ln -f", "weir.yaml", "weir.yaml", prepare_releases_and_plain, |folder, round| {
        run(folder, &format!("ln -f {round}/conf/weir.yaml weir.yaml"));
    }),
];

fn prepare_releases_and_plain(folder: &Path) {
    prepare_releases(folder);
    plain(folder);
}
