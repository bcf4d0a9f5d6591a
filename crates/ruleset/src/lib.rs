//! How policy becomes nftables: the model, rendering, difference, text and the packet walk
