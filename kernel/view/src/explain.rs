//! Why a leaf has its size and its rights.
