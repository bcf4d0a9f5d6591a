//! The kernel side: netlink commits, reading back, conntrack facts
