//! Numbers of the kernel's interface (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h).

/// Message types, with the subsystem in the upper byte.
pub(crate) mod kind {
    const fn nftables(message: u16) -> u16 {
        10 << 8 | message
    }

    pub(crate) const BATCH_BEGIN: u16 = 0x10;
    pub(crate) const BATCH_END: u16 = 0x11;
    pub(crate) const NEW_TABLE: u16 = nftables(0);
    pub(crate) const GET_TABLE: u16 = nftables(1);
    pub(crate) const DELETE_TABLE: u16 = nftables(2);
    pub(crate) const NEW_CHAIN: u16 = nftables(3);
    pub(crate) const GET_CHAIN: u16 = nftables(4);
    pub(crate) const DELETE_CHAIN: u16 = nftables(5);
    pub(crate) const NEW_RULE: u16 = nftables(6);
    pub(crate) const GET_RULE: u16 = nftables(7);
    pub(crate) const DELETE_RULE: u16 = nftables(8);
    pub(crate) const NEW_SET: u16 = nftables(9);
    pub(crate) const GET_SET: u16 = nftables(10);
    pub(crate) const DELETE_SET: u16 = nftables(11);
    pub(crate) const NEW_ELEMENTS: u16 = nftables(12);
    pub(crate) const GET_ELEMENTS: u16 = nftables(13);
    pub(crate) const DELETE_ELEMENTS: u16 = nftables(14);
    pub(crate) const GET_GENERATION: u16 = nftables(16);
    pub(crate) const NEW_OBJECT: u16 = nftables(18);
    pub(crate) const GET_OBJECT: u16 = nftables(19);
}

/// Attribute types, by the object they describe.
pub(crate) mod attribute {
    /// `NFTA_LIST_ELEM`.
    pub(crate) const LIST_ELEMENT: u16 = 1;
    /// `NFTA_DATA_VALUE`.
    pub(crate) const DATA_VALUE: u16 = 1;
    /// `NFTA_DATA_VERDICT`.
    pub(crate) const DATA_VERDICT: u16 = 2;
    /// `NFNL_BATCH_GENID`.
    pub(crate) const BATCH_GENERATION: u16 = 1;
    /// `NFTA_GEN_ID`.
    pub(crate) const GENERATION_ID: u16 = 1;

    pub(crate) mod table {
        pub(crate) const NAME: u16 = 1;
        pub(crate) const FLAGS: u16 = 2;
        pub(crate) const USERDATA: u16 = 6;
        pub(crate) const OWNER: u16 = 7;
    }

    pub(crate) mod chain {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 3;
        pub(crate) const HOOK: u16 = 4;
        pub(crate) const POLICY: u16 = 5;
        pub(crate) const TYPE: u16 = 7;
        pub(crate) const USERDATA: u16 = 12;
        pub(crate) const HOOK_NUMBER: u16 = 1;
        pub(crate) const HOOK_PRIORITY: u16 = 2;
    }

    pub(crate) mod rule {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const CHAIN: u16 = 2;
        pub(crate) const EXPRESSIONS: u16 = 4;
        pub(crate) const USERDATA: u16 = 7;
    }

    pub(crate) mod set {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 2;
        pub(crate) const FLAGS: u16 = 3;
        pub(crate) const KEY_TYPE: u16 = 4;
        pub(crate) const KEY_LENGTH: u16 = 5;
        pub(crate) const DATA_TYPE: u16 = 6;
        pub(crate) const DATA_LENGTH: u16 = 7;
        pub(crate) const ID: u16 = 10;
        pub(crate) const USERDATA: u16 = 13;
        /// `NFTA_SET_DESC`, and `NFTA_SET_DESC_SIZE` in it.
        pub(crate) const DESCRIPTION: u16 = 9;
        pub(crate) const SIZE: u16 = 1;
        /// `NFTA_SET_TIMEOUT`, `_GC_INTERVAL`, `_OBJ_TYPE`, `_EXPR`, `_EXPRESSIONS`: our sets have none of these; they
        /// make elements expire or match differently.
        pub(crate) const FOREIGN: [u16; 5] = [11, 12, 15, 17, 18];
    }

    pub(crate) mod elements {
        pub(crate) const SET: u16 = 2;
        pub(crate) const LIST: u16 = 3;
    }

    pub(crate) mod element {
        pub(crate) const KEY: u16 = 1;
        pub(crate) const DATA: u16 = 2;
        pub(crate) const FLAGS: u16 = 3;
        pub(crate) const USERDATA: u16 = 6;
        /// `NFTA_SET_ELEM_TIMEOUT`, `_EXPR`, `_OBJREF`, `_KEY_END`, `_EXPRESSIONS`: an element with one of these may
        /// expire, or match only at times.
        pub(crate) const FOREIGN: [u16; 5] = [4, 7, 9, 10, 11];
    }

    pub(crate) mod object {
        pub(crate) const TABLE: u16 = 1;
        pub(crate) const NAME: u16 = 2;
        pub(crate) const TYPE: u16 = 3;
        pub(crate) const DATA: u16 = 4;
        pub(crate) const COUNTER_BYTES: u16 = 1;
        pub(crate) const COUNTER_PACKETS: u16 = 2;
    }
}

/// `NFPROTO_*`.
pub(crate) mod family {
    pub(crate) const INET: u8 = 1;
    pub(crate) const IPV4: u8 = 2;
    pub(crate) const IPV6: u8 = 10;
}

/// `NFT_TABLE_F_*`.
pub(crate) mod table_flag {
    /// None of its chains is hooked.
    pub(crate) const DORMANT: u32 = 1;
    /// Only the socket that created or adopted the table may change it.
    pub(crate) const OWNER: u32 = 2;
    /// The table outlives its owner.
    pub(crate) const PERSIST: u32 = 4;
}

/// `NFT_SET_*`.
pub(crate) mod set_flag {
    pub(crate) const INTERVAL: u32 = 4;
    pub(crate) const MAP: u32 = 8;
}

/// `NFT_SET_ELEM_INTERVAL_END`.
pub(crate) const INTERVAL_END: u32 = 1;

/// `NFT_OBJECT_COUNTER`.
pub(crate) const OBJECT_COUNTER: u32 = 1;

/// `NFT_DATA_VERDICT`, the data type of verdict maps.
pub(crate) const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;

/// `NFT_META_*`.
pub(crate) mod meta {
    pub(crate) const INPUT_INTERFACE_NAME: u32 = 6;
    pub(crate) const NFPROTO: u32 = 15;
    pub(crate) const L4PROTO: u32 = 16;
    pub(crate) const PACKET_TYPE: u32 = 19;
}

/// `NFT_CT_*`.
pub(crate) mod ct {
    pub(crate) const STATE: u32 = 0;
    pub(crate) const SOURCE_PORT: u32 = 11;
    pub(crate) const DESTINATION_PORT: u32 = 12;
    pub(crate) const SOURCE_IPV4: u32 = 19;
    pub(crate) const SOURCE_IPV6: u32 = 21;
    /// `IP_CT_DIR_ORIGINAL`.
    pub(crate) const ORIGINAL: u8 = 0;
    /// `IP_CT_DIR_REPLY`.
    pub(crate) const REPLY: u8 = 1;
}

/// `NFT_PAYLOAD_*`.
pub(crate) mod base {
    pub(crate) const NETWORK: u32 = 1;
    pub(crate) const TRANSPORT: u32 = 2;
}

/// `NFT_FIB_*`.
pub(crate) mod fib {
    pub(crate) const RESULT_ADDRESS_TYPE: u32 = 3;
    pub(crate) const DESTINATION: u32 = 2;
}

/// `NFT_CMP_*`.
pub(crate) mod compare {
    pub(crate) const EQUAL: u32 = 0;
    pub(crate) const NOT_EQUAL: u32 = 1;
    pub(crate) const AT_MOST: u32 = 3;
    pub(crate) const AT_LEAST: u32 = 5;
}

/// Verdict codes, negative ones as the kernel casts them.
pub(crate) mod verdict {
    pub(crate) const DROP: i32 = 0;
    pub(crate) const ACCEPT: i32 = 1;
    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;
}
