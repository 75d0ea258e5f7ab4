//! x86-64: formats, layout, kernel protections and boot decisions.
