//! The data directory under crashes, full and read-only disks, and mistakes of operators: whatever happens, what was
//! acknowledged is there, or the start is refused with its remedy and nothing is overwritten.

mod crashes;
mod directories;
mod full_disk;
mod syscalls;
mod writer;
