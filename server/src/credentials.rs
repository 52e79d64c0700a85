//! Who is this? Passwords are verified here, off the I/O threads, under a limit, with a short memory of successes.
