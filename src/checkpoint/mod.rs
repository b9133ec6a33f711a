//! Checkpoints: the only code that reads or writes weight files.
