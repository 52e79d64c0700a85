//! The API types of `paquebot.dev/v1alpha1`.
