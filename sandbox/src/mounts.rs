//! The file system of a sandbox: an empty tmpfs with the declared mounts.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};

use camino::{Utf8Path, Utf8PathBuf};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::pivot_root;

use super::mountpoint;
use super::spec::{Limits, Mount, SetupError, Spec};

/// The mount point of the machine's own file system while the new one is built. No declared mount may be there.
pub const HOST: &str = "/.host";

/// Every machine has this folder, and no input is below it. The new root is first mounted over it.
const PLACE: &str = "/proc";

/// The approximate kernel memory of a file in a tmpfs in addition to its content, in bytes.
pub(super) const INODE: u64 = 1024;

/// The devices that every program may use.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Empty folders in memory that every program may write to, with their modes.
pub(super) const MEMORY: [(&str, u32); 3] = [("/tmp", 0o1777), ("/home", 0o755), ("/dev/shm", 0o1777)];

/// Files in `/proc` that describe the machine or the caller's keys, and that no build needs.
const HIDDEN: [&str; 5] = ["/proc/keys", "/proc/key-users", "/proc/kcore", "/proc/timer_list", "/proc/sched_debug"];

const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// The accounts that programs see: their own, root and nobody.
const PASSWD: &str = "root:x:0:0:nobody here:/:/noshell\nbuilder:x:1000:1000:builder:/home:/noshell\n\
                      nobody:x:65534:65534:nobody:/:/noshell\n";
const GROUP: &str = "root:x:0:\nbuilder:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Builds the file system and moves this process into it. The machine's file system remains at [`HOST`] until
/// [`close`].
pub(super) fn open(spec: &Spec) -> Result<(), SetupError> {
    let step = |result: nix::Result<()>, attempt: &str| result.map_err(SetupError::of(attempt));
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    step(mount(None::<&str>, "/", None::<&str>, private, None::<&str>), "keep mounts to itself")?;
    memory(PLACE, &spec.limits)?;
    let host = format!("{PLACE}{HOST}");
    fs::create_dir(&host).map_err(SetupError::on("make a folder for the machine's files"))?;
    step(pivot_root(PLACE, host.as_str()), "change the root")?;
    std::env::set_current_dir("/").map_err(SetupError::on("enter the new root"))?;
    devices()?;
    for (name, mode) in MEMORY {
        folder(name, mode)?;
    }
    accounts().map_err(SetupError::on("write /etc"))?;
    for one in &spec.mounts {
        bind(one).map_err(SetupError::on(format!("mount {} at {}", one.host, one.inside)))?;
    }
    for link in &spec.links {
        let made = parent(&link.inside).and_then(|()| symlink(&link.target, &link.inside));
        made.map_err(SetupError::on(format!("link {} to {}", link.inside, link.target)))?;
    }
    processes()
}

/// Unmounts the machine's file system and makes the root read-only.
pub(super) fn close() -> Result<(), SetupError> {
    umount2(HOST, MntFlags::MNT_DETACH).map_err(SetupError::of("leave the machine's files"))?;
    fs::remove_dir(HOST).map_err(SetupError::on("leave the machine's files"))?;
    for path in ["/dev", "/"] {
        restrict(path, MsFlags::MS_RDONLY).map_err(SetupError::on(format!("make {path} read-only")))?;
    }
    Ok(())
}

/// Mounts the single empty tmpfs in which everything is created.
fn memory(path: &str, limits: &Limits) -> Result<(), SetupError> {
    // Bounds the memory of files in the tmpfs, even if the kernel does not count the program's memory.
    let size =
        limits.memory.map_or(String::new(), |limit| format!(",size={limit},nr_inodes={}", limit.div_ceil(INODE)));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(format!("mode=0755{size}").as_str()))
        .map_err(SetupError::of(format!("mount an empty {path}")))
}

/// Creates a folder that is a mount of its own, so that it can be made read-only or stay writable separately. Its
/// contents count toward the same tmpfs.
fn folder(path: &str, mode: u32) -> Result<(), SetupError> {
    let made = fs::create_dir(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.map_err(SetupError::on(format!("make {path}")))?;
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(SetupError::of(format!("mount {path}")))
}

fn devices() -> Result<(), SetupError> {
    folder("/dev", 0o755)?;
    for name in DEVICES {
        let (host, inside) = (format!("{HOST}/dev/{name}"), format!("/dev/{name}"));
        let attempt = || format!("mount {inside}");
        File::create(&inside).map_err(SetupError::on(attempt()))?;
        mount(Some(host.as_str()), inside.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(SetupError::of(attempt()))?;
        // A device can still be written to, but its owner, who may be this user, cannot change its mode on the machine.
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        restrict(&inside, flags).map_err(SetupError::on(attempt()))?;
    }
    for (target, link) in LINKS {
        symlink(target, link).map_err(SetupError::on(format!("make {link}")))?;
    }
    Ok(())
}

fn accounts() -> io::Result<()> {
    fs::create_dir("/etc")?;
    for (path, text) in [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/hosts", HOSTS)] {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Mounts a file or folder of the machine. Devices and set-user-ID bits have no effect in it or in mounts below it;
/// all of it is read-only unless `writable` is set. Its programs can be executed, because inputs include programs.
fn bind(one: &Mount) -> io::Result<()> {
    let host: Utf8PathBuf = Utf8Path::new(HOST).join(one.host.strip_prefix("/").unwrap_or(&one.host));
    let inside = Utf8Path::new("/").join(&one.inside);
    if inside.starts_with(HOST) {
        return Err(io::Error::other("the path is reserved for the machine's own files"));
    }
    let opened = mountpoint::make(Utf8Path::new("/"), &inside, host.is_dir())?;
    // Refers to the opened mount point itself, even if its path now leads elsewhere.
    let place = format!("{HOST}/proc/self/fd/{}", opened.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(host.as_std_path()), place.as_str(), None::<&str>, flags, None::<&str>)?;
    let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let flags = if one.writable { kept } else { kept | MsFlags::MS_RDONLY };
    let mounts = fs::read_to_string(format!("{HOST}/proc/self/mountinfo"))?;
    let below = parse_mountinfo(&mounts).filter(|mount| mount.path.starts_with(&inside));
    below.map(|mount| mount.path).try_for_each(|path| restrict(path, flags))
}

/// Adds restrictions to one mount. Keeps its present restrictions, as the kernel requires in a user namespace.
fn restrict(path: impl AsRef<std::path::Path>, flags: MsFlags) -> io::Result<()> {
    let path = path.as_ref();
    let known = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let now = statvfs(path)?.flags();
    let kept = known.into_iter().filter(|(known, _)| now.contains(*known)).map(|(_, flag)| flag);
    let flags = kept.fold(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, |all, flag| all | flag);
    Ok(mount(None::<&str>, path, None::<&str>, flags, None::<&str>)?)
}

/// Mounts `/proc` for the sandbox's own processes. It is read-only, because some files in it control the kernel of the
/// machine.
fn processes() -> Result<(), SetupError> {
    fs::create_dir_all("/proc").map_err(SetupError::on("make /proc"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    match mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>) {
        // If a container hides parts of its own /proc, the kernel permits no further one. Most programs do not need it.
        Ok(()) => HIDDEN.into_iter().filter(|file| Utf8Path::new(file).exists()).try_for_each(hide),
        Err(nix::Error::EPERM) => Ok(()),
        Err(error) => Err(SetupError::of("mount /proc")(error)),
    }
}

/// Mounts an empty file over this one.
fn hide(file: &str) -> Result<(), SetupError> {
    mount(Some("/dev/null"), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(SetupError::of(format!("hide {file}")))
}

fn parent(path: &Utf8Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// A line of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountLine {
    /// The folder of the file system that is mounted.
    pub(super) root: Utf8PathBuf,
    /// The mount point.
    pub(super) path: Utf8PathBuf,
    /// The file system's type.
    pub(super) kind: String,
    /// The file system's own options.
    pub(super) options: String,
}

/// Parses `/proc/PID/mountinfo`; skips lines that are not recognized.
pub(super) fn parse_mountinfo(text: &str) -> impl Iterator<Item = MountLine> {
    text.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let system: Vec<&str> = system.split(' ').collect();
        Some(MountLine {
            root: unescape(mount.get(3)?).into(),
            path: unescape(mount.get(4)?).into(),
            kind: (*system.first()?).to_owned(),
            options: (*system.get(2)?).to_owned(),
        })
    })
}

/// Decodes the kernel's octal escapes of spaces, newlines and backslashes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::parse_mountinfo;

    #[test]
    fn mounts_are_read_with_their_escapes_and_optional_fields() {
        let text =
            "42 27 254:0 /a /run/my\\040dir rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard\nnonsense\n";
        let mounts: Vec<_> = parse_mountinfo(text).collect();
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].path.as_str(), mounts[0].root.as_str()), ("/run/my dir", "/a"));
        assert_eq!((mounts[0].kind.as_str(), mounts[0].options.as_str()), ("ext4", "rw,discard"));
    }
}
