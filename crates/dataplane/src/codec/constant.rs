//! Numbers of the kernel's interface, named as in its headers: `nfta::META_KEY` is `NFTA_META_KEY`.
//!
//! They are from linux/netfilter/nf_tables.h, if no other header is named.

/// `NFNL_*` (linux/netfilter/nfnetlink.h).
pub(crate) mod nfnl {
    pub(crate) const SUBSYS_NFTABLES: u16 = 10;
    pub(crate) const MSG_BATCH_BEGIN: u16 = 16;
    pub(crate) const MSG_BATCH_END: u16 = 17;
    pub(crate) const BATCH_GENID: u16 = 1;
}

/// `NFT_MSG_*`, with the subsystem in the upper byte.
pub(crate) mod msg {
    const fn nftables(message: u16) -> u16 {
        super::nfnl::SUBSYS_NFTABLES << 8 | message
    }

    pub(crate) const NEWTABLE: u16 = nftables(0);
    pub(crate) const GETTABLE: u16 = nftables(1);
    pub(crate) const DELTABLE: u16 = nftables(2);
    pub(crate) const NEWCHAIN: u16 = nftables(3);
    pub(crate) const GETCHAIN: u16 = nftables(4);
    pub(crate) const DELCHAIN: u16 = nftables(5);
    pub(crate) const NEWRULE: u16 = nftables(6);
    pub(crate) const GETRULE: u16 = nftables(7);
    pub(crate) const DELRULE: u16 = nftables(8);
    pub(crate) const NEWSET: u16 = nftables(9);
    pub(crate) const GETSET: u16 = nftables(10);
    pub(crate) const DELSET: u16 = nftables(11);
    pub(crate) const NEWSETELEM: u16 = nftables(12);
    pub(crate) const GETSETELEM: u16 = nftables(13);
    pub(crate) const DELSETELEM: u16 = nftables(14);
    pub(crate) const GETGEN: u16 = nftables(16);
    pub(crate) const NEWOBJ: u16 = nftables(18);
    pub(crate) const GETOBJ: u16 = nftables(19);
}

/// Attributes: `NFTA_*`.
pub(crate) mod nfta {
    pub(crate) const LIST_ELEM: u16 = 1;

    pub(crate) const HOOK_HOOKNUM: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;

    pub(crate) const TABLE_NAME: u16 = 1;
    pub(crate) const TABLE_FLAGS: u16 = 2;
    pub(crate) const TABLE_USERDATA: u16 = 6;
    pub(crate) const TABLE_OWNER: u16 = 7;

    pub(crate) const CHAIN_TABLE: u16 = 1;
    pub(crate) const CHAIN_NAME: u16 = 3;
    pub(crate) const CHAIN_HOOK: u16 = 4;
    pub(crate) const CHAIN_POLICY: u16 = 5;
    pub(crate) const CHAIN_TYPE: u16 = 7;
    pub(crate) const CHAIN_USERDATA: u16 = 12;

    pub(crate) const RULE_TABLE: u16 = 1;
    pub(crate) const RULE_CHAIN: u16 = 2;
    pub(crate) const RULE_EXPRESSIONS: u16 = 4;
    pub(crate) const RULE_USERDATA: u16 = 7;

    pub(crate) const SET_DESC_SIZE: u16 = 1;

    pub(crate) const SET_TABLE: u16 = 1;
    pub(crate) const SET_NAME: u16 = 2;
    pub(crate) const SET_FLAGS: u16 = 3;
    pub(crate) const SET_KEY_TYPE: u16 = 4;
    pub(crate) const SET_KEY_LEN: u16 = 5;
    pub(crate) const SET_DATA_TYPE: u16 = 6;
    pub(crate) const SET_DATA_LEN: u16 = 7;
    pub(crate) const SET_DESC: u16 = 9;
    pub(crate) const SET_ID: u16 = 10;
    pub(crate) const SET_TIMEOUT: u16 = 11;
    pub(crate) const SET_GC_INTERVAL: u16 = 12;
    pub(crate) const SET_USERDATA: u16 = 13;
    pub(crate) const SET_OBJ_TYPE: u16 = 15;
    pub(crate) const SET_EXPR: u16 = 17;
    pub(crate) const SET_EXPRESSIONS: u16 = 18;

    pub(crate) const SET_ELEM_KEY: u16 = 1;
    pub(crate) const SET_ELEM_DATA: u16 = 2;
    pub(crate) const SET_ELEM_FLAGS: u16 = 3;
    pub(crate) const SET_ELEM_TIMEOUT: u16 = 4;
    pub(crate) const SET_ELEM_USERDATA: u16 = 6;
    pub(crate) const SET_ELEM_EXPR: u16 = 7;
    pub(crate) const SET_ELEM_OBJREF: u16 = 9;
    pub(crate) const SET_ELEM_KEY_END: u16 = 10;
    pub(crate) const SET_ELEM_EXPRESSIONS: u16 = 11;

    pub(crate) const SET_ELEM_LIST_SET: u16 = 2;
    pub(crate) const SET_ELEM_LIST_ELEMENTS: u16 = 3;

    pub(crate) const DATA_VALUE: u16 = 1;
    pub(crate) const DATA_VERDICT: u16 = 2;

    pub(crate) const VERDICT_CODE: u16 = 1;
    pub(crate) const VERDICT_CHAIN: u16 = 2;

    pub(crate) const EXPR_NAME: u16 = 1;
    pub(crate) const EXPR_DATA: u16 = 2;

    pub(crate) const IMMEDIATE_DREG: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;

    pub(crate) const BITWISE_SREG: u16 = 1;
    pub(crate) const BITWISE_DREG: u16 = 2;
    pub(crate) const BITWISE_LEN: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;
    pub(crate) const BITWISE_OP: u16 = 6;

    pub(crate) const CMP_SREG: u16 = 1;
    pub(crate) const CMP_OP: u16 = 2;
    pub(crate) const CMP_DATA: u16 = 3;

    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_SREG: u16 = 2;
    pub(crate) const LOOKUP_DREG: u16 = 3;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;

    pub(crate) const PAYLOAD_DREG: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LEN: u16 = 4;

    pub(crate) const META_DREG: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;

    pub(crate) const CT_DREG: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    pub(crate) const CT_DIRECTION: u16 = 3;
    pub(crate) const CT_SREG: u16 = 4;

    pub(crate) const COUNTER_BYTES: u16 = 1;
    pub(crate) const COUNTER_PACKETS: u16 = 2;

    pub(crate) const OBJREF_IMM_TYPE: u16 = 1;
    pub(crate) const OBJREF_IMM_NAME: u16 = 2;

    pub(crate) const GEN_ID: u16 = 1;

    pub(crate) const FIB_DREG: u16 = 1;
    pub(crate) const FIB_RESULT: u16 = 2;
    pub(crate) const FIB_FLAGS: u16 = 3;

    pub(crate) const OBJ_TABLE: u16 = 1;
    pub(crate) const OBJ_NAME: u16 = 2;
    pub(crate) const OBJ_TYPE: u16 = 3;
    pub(crate) const OBJ_DATA: u16 = 4;
}

/// Values: `NFT_*`.
pub(crate) mod nft {
    pub(crate) const REG_VERDICT: u32 = 0;
    pub(crate) const REG_1: u32 = 1;
    pub(crate) const REG32_00: u32 = 8;

    pub(crate) const JUMP: i32 = -3;
    pub(crate) const GOTO: i32 = -4;
    pub(crate) const RETURN: i32 = -5;

    /// None of its chains is hooked.
    pub(crate) const TABLE_F_DORMANT: u32 = 1;
    /// Only the socket that created or adopted the table may change it.
    pub(crate) const TABLE_F_OWNER: u32 = 2;
    /// The table outlives its owner (Linux 6.9).
    pub(crate) const TABLE_F_PERSIST: u32 = 4;

    pub(crate) const SET_INTERVAL: u32 = 4;
    pub(crate) const SET_MAP: u32 = 8;

    pub(crate) const SET_ELEM_INTERVAL_END: u32 = 1;

    pub(crate) const DATA_VERDICT: u32 = 0xffff_ff00;

    pub(crate) const BITWISE_MASK_XOR: u32 = 0;

    pub(crate) const CMP_EQ: u32 = 0;
    pub(crate) const CMP_NEQ: u32 = 1;
    pub(crate) const CMP_LTE: u32 = 3;
    pub(crate) const CMP_GTE: u32 = 5;

    pub(crate) const PAYLOAD_NETWORK_HEADER: u32 = 1;
    pub(crate) const PAYLOAD_TRANSPORT_HEADER: u32 = 2;

    pub(crate) const META_IIFNAME: u32 = 6;
    pub(crate) const META_NFPROTO: u32 = 15;
    pub(crate) const META_L4PROTO: u32 = 16;
    pub(crate) const META_PKTTYPE: u32 = 19;

    pub(crate) const CT_STATE: u32 = 0;
    pub(crate) const CT_MARK: u32 = 3;
    pub(crate) const CT_PROTO_SRC: u32 = 11;
    pub(crate) const CT_PROTO_DST: u32 = 12;
    pub(crate) const CT_SRC_IP: u32 = 19;
    pub(crate) const CT_SRC_IP6: u32 = 21;

    pub(crate) const FIB_RESULT_ADDRTYPE: u32 = 3;

    pub(crate) const OBJECT_COUNTER: u32 = 1;
}

/// `NFTA_FIB_F_SADDR` and `NFTA_FIB_F_DADDR`, flags despite their prefix.
pub(crate) const FIB_F_SADDR: u32 = 1;
pub(crate) const FIB_F_DADDR: u32 = 2;

/// `NFPROTO_*` (linux/netfilter.h).
pub(crate) mod nfproto {
    pub(crate) const INET: u8 = 1;
    pub(crate) const IPV4: u8 = 2;
    pub(crate) const IPV6: u8 = 10;
}

/// `NF_*` (linux/netfilter.h).
pub(crate) mod nf {
    pub(crate) const DROP: i32 = 0;
    pub(crate) const ACCEPT: i32 = 1;
}

/// `IP_CT_DIR_*` (linux/netfilter/nf_conntrack_tuple_common.h).
pub(crate) mod ip_ct_dir {
    pub(crate) const ORIGINAL: u8 = 0;
    pub(crate) const REPLY: u8 = 1;
}

/// nft's numbers of datatypes (`TYPE_*` in nftables' include/datatype.h). The kernel only keeps them; a listing reads them.
pub(crate) mod datatype {
    pub(crate) const IPADDR: u32 = 7;
    pub(crate) const IP6ADDR: u32 = 8;
    pub(crate) const INET_SERVICE: u32 = 13;
    pub(crate) const IFNAME: u32 = 41;

    /// `TYPE_BITS`: the bits that a concatenation's type has for each of its fields.
    pub(crate) const BITS: u32 = 6;
}
