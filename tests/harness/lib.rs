//! Values that start real peers and clean up when dropped.
