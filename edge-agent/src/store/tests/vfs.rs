//! SQLite on a [`Disk`]: its file system interface (sqlite.org/vfs.html) over files in memory. A database's path is
//! `file:/NAME/node.db?vfs=simulated`, where `NAME` is what the disk was plugged in as.

#![allow(unsafe_code, reason = "SQLite calls these through pointers")]

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    path::PathBuf,
    sync::{Mutex, Once},
};

use rusqlite::ffi;

use super::disk::{Disk, File, Off, Shared};

/// The plugged disks, by name.
static DISKS: Mutex<Option<HashMap<String, Disk>>> = Mutex::new(None);
static REGISTERED: Once = Once::new();

/// Longer than any path here.
const PATH_BYTES_MAX: c_int = 256;

/// A disk in its slot; unplugged when dropped.
pub(crate) struct Plugged(String);

impl Plugged {
    /// Makes the disk known to SQLite under this name.
    pub fn new(name: &str, disk: &Disk) -> Self {
        REGISTERED.call_once(register);
        let mut disks = DISKS.lock().expect("no test panicked with the disks");
        disks.get_or_insert_default().insert(name.to_owned(), disk.clone());
        Self(name.to_owned())
    }

    /// Where a store lies on it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("file:/{}/node.db?vfs=simulated", self.0))
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        if let Ok(mut disks) = DISKS.lock() {
            disks.get_or_insert_default().remove(&self.0);
        }
    }
}

/// What SQLite keeps of an open file.
#[repr(C)]
struct Open {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

struct Handle {
    disk: Disk,
    name: String,
    id: u64,
}

/// The disk that a path is on, and the file's name there.
fn disk_of(path: &str) -> Option<(Disk, String)> {
    let (slot, name) = path.trim_start_matches('/').split_once('/')?;
    Some((DISKS.lock().ok()?.as_ref()?.get(slot).cloned()?, name.to_owned()))
}

/// # Safety
/// `file` is one that `open` filled.
unsafe fn handle<'a>(file: *mut ffi::sqlite3_file) -> &'a Handle {
    // SAFETY: `open` put a handle there, and `close` has not been called yet.
    unsafe { &*(*file.cast::<Open>()).handle }
}

/// # Safety
/// `text` is null or ends with a zero byte.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn code(done: Result<(), Off>, failed: c_int) -> c_int {
    done.map_or(failed, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives a path or null, and room for `szOsFile` bytes.
    unsafe {
        (*file).pMethods = std::ptr::null();
        let Some((disk, name)) = disk_of(&text(path)) else { return ffi::SQLITE_CANTOPEN };
        let mut state = disk.state();
        if state.check().is_err() || (!state.files.contains_key(&name) && flags & ffi::SQLITE_OPEN_CREATE == 0) {
            return ffi::SQLITE_CANTOPEN;
        }
        state.files.entry(name.clone()).or_insert_with(File::default);
        let id = state.handle();
        drop(state);
        (*file.cast::<Open>()).handle = Box::into_raw(Box::new(Handle { disk, name, id }));
        (*file).pMethods = &METHODS;
        if !out.is_null() {
            *out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once.
    let handle = unsafe { Box::from_raw((*file.cast::<Open>()).handle) };
    let mut state = handle.disk.state();
    if let Some(file) = state.files.get_mut(&handle.name) {
        file.locks.remove(&handle.id);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite gives room for `length` bytes.
    let (handle, to) = unsafe { (handle(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), length as usize)) };
    let state = handle.disk.state();
    let Some(file) = state.files.get(&handle.name).filter(|_| state.check().is_ok()) else {
        return ffi::SQLITE_IOERR_READ;
    };
    let offset = offset as usize;
    let there = file.now.get(offset..).unwrap_or_default();
    let length = there.len().min(to.len());
    to[..length].copy_from_slice(&there[..length]);
    to[length..].fill(0);
    if length < to.len() { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, length: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite gives `length` bytes.
    let (handle, from) = unsafe { (handle(file), std::slice::from_raw_parts(from.cast::<u8>(), length as usize)) };
    code(handle.disk.state().write(&handle.name, offset as usize, from), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    code(handle.disk.state().truncate(&handle.name, length as usize), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    code(handle.disk.state().sync(&handle.name), ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn size(file: *mut ffi::sqlite3_file, out: *mut i64) -> c_int {
    // SAFETY: the file is open, and SQLite gives room for the answer.
    let handle = unsafe { handle(file) };
    let length = handle.disk.state().files.get(&handle.name).map_or(0, |file| file.now.len());
    unsafe { *out = length as i64 };
    ffi::SQLITE_OK
}

/// Whether a file may be locked so far while the others hold what they hold: 1 shared, 2 reserved, 3 pending, 4 exclusive.
fn may_lock(wanted: c_int, mut others: impl Iterator<Item = c_int>) -> bool {
    match wanted {
        ffi::SQLITE_LOCK_SHARED => others.all(|held| held < ffi::SQLITE_LOCK_PENDING),
        ffi::SQLITE_LOCK_EXCLUSIVE => others.all(|held| held == ffi::SQLITE_LOCK_NONE),
        _ => others.all(|held| held < ffi::SQLITE_LOCK_RESERVED),
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, wanted: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    let Some(file) = state.files.get_mut(&handle.name) else { return ffi::SQLITE_IOERR_LOCK };
    let others = file.locks.iter().filter(|(id, _)| **id != handle.id).map(|(_, held)| *held);
    if !may_lock(wanted, others) {
        return ffi::SQLITE_BUSY;
    }
    let held = file.locks.entry(handle.id).or_insert(ffi::SQLITE_LOCK_NONE);
    *held = (*held).max(wanted);
    ffi::SQLITE_OK
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, left: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    if let Some(file) = handle.disk.state().files.get_mut(&handle.name) {
        file.locks.insert(handle.id, left);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn is_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: the file is open, and SQLite gives room for the answer.
    let handle = unsafe { handle(file) };
    let state = handle.disk.state();
    let held = state.files.get(&handle.name).is_some_and(|f| f.locks.values().any(|h| *h >= ffi::SQLITE_LOCK_RESERVED));
    unsafe { *out = c_int::from(held) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_bytes(_: *mut ffi::sqlite3_file) -> c_int {
    512
}

/// A write harms no byte beside it, as SQLite takes for granted of every disk.
unsafe extern "C" fn characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is open, and SQLite gives room for the answer. A region stays where it is until no connection
    // is left: only `Disk::restart` drops it.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    let shared = state.shared.entry(handle.name.clone()).or_default();
    while extend != 0 && shared.regions.len() <= region as usize {
        shared.regions.push(vec![0; bytes as usize].into());
    }
    let found = shared.regions.get_mut(region as usize).map_or(std::ptr::null_mut(), |region| region.as_mut_ptr());
    unsafe { *out = found.cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    let Shared { locks, .. } = state.shared.entry(handle.name.clone()).or_default();
    let wanted = u8::try_from(((1_u32 << count) - 1) << offset).expect("there are eight locks");
    let (mut shared, mut alone) = (0, 0);
    for (_, (s, a)) in locks.iter().filter(|(id, _)| **id != handle.id) {
        (shared, alone) = (shared | s, alone | a);
    }
    let own = locks.entry(handle.id).or_default();
    let is_shared = flags & ffi::SQLITE_SHM_SHARED != 0;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        (own.0, own.1) = (own.0 & !wanted, own.1 & !wanted);
    } else if wanted & alone != 0 || (!is_shared && wanted & shared != 0) {
        return ffi::SQLITE_BUSY;
    } else if is_shared {
        own.0 |= wanted;
    } else {
        own.1 |= wanted;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    if let Some(shared) = handle.disk.state().shared.get_mut(&handle.name) {
        shared.locks.remove(&handle.id);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, _: c_int) -> c_int {
    // SAFETY: SQLite gives a path.
    let Some((disk, name)) = disk_of(&unsafe { text(path) }) else { return ffi::SQLITE_IOERR_DELETE };
    let mut state = disk.state();
    if state.check().is_err() {
        return ffi::SQLITE_IOERR_DELETE;
    }
    state.files.remove(&name).map_or(ffi::SQLITE_IOERR_DELETE_NOENT, |_| ffi::SQLITE_OK)
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, path: *const c_char, _: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite gives a path and room for the answer.
    let Some((disk, name)) = disk_of(&unsafe { text(path) }) else { return ffi::SQLITE_IOERR_ACCESS };
    let is_there = disk.state().files.contains_key(&name);
    unsafe { *out = c_int::from(is_there) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(_: *mut ffi::sqlite3_vfs, path: *const c_char, room: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite gives a path and `room` bytes for the answer.
    unsafe {
        let bytes = CStr::from_ptr(path).to_bytes_with_nul();
        if bytes.len() > room as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

/// The same each time: nothing may differ between two runs of one seed.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, length: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite gives room for `length` bytes.
    unsafe { std::ptr::write_bytes(out, 0x5A, length as usize) };
    length
}

unsafe extern "C" fn pause(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite gives room for the answer.
    unsafe { *out = 2_460_000.5 };
    ffi::SQLITE_OK
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_bytes),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn register() {
    let vfs = ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: c_int::try_from(size_of::<Open>()).expect("small"),
        mxPathname: PATH_BYTES_MAX,
        pNext: std::ptr::null_mut(),
        zName: c"simulated".as_ptr(),
        pAppData: std::ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_path),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(pause),
        xCurrentTime: Some(time),
        xGetLastError: None,
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    };
    // SAFETY: the structure lives as long as the process, and every pointer in it is to a function above.
    let registered = unsafe { ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0) };
    assert_eq!(registered, ffi::SQLITE_OK, "SQLite takes the file system");
}
