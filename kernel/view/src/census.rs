//! What the tables hold, counted from the tables themselves.
