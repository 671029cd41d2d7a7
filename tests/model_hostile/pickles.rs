//! Pickles that try to run something.

use eddyline::model::{pickle::Pickle, state_dict::StateDict};

use crate::files::{dict, int, legacy_pt, string, tensor, tuple, zip_pt};

/// What a refused pickle says, alike in both containers and on its own.
fn refusal(object: &[u8]) -> String {
    let messages = [
        StateDict::read(&zip_pt(object, &[&[0; 4]])).unwrap_err().to_string(),
        StateDict::read(&legacy_pt(object, &[&[0; 4]])).unwrap_err().to_string(),
        Pickle::read(object).unwrap_err().to_string(),
    ];
    assert!(messages.iter().all(|m| *m == messages[0]), "{messages:?}");
    messages[0].clone()
}

/// Pickles that come to the same call by different instructions.
fn calls(module: &str, name: &str) -> Vec<Vec<u8>> {
    let argument = [b"(".to_vec(), string("touch /tmp/owned"), b"t".to_vec()].concat();
    let global = format!("c{module}\n{name}\n").into_bytes();
    let short = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
    let stack_global = [short(module), vec![0x94], short(name), vec![0x94], vec![0x93]].concat();
    let mut calls = Vec::new();
    for function in [global, stack_global] {
        let call = [function.clone(), argument.clone(), b"R".to_vec()].concat();
        calls.push([b"\x80\x04".to_vec(), call.clone(), b".".to_vec()].concat());
        // Not even a name that is never called.
        calls.push([b"\x80\x04".to_vec(), function.clone(), b".".to_vec()].concat());
        // As a value, as a key, in a tuple of a list, as a tensor's hooks, as attributes, as a storage's description.
        calls.push(dict(&[("fc1.weight", tensor("0", 1, 0, &[1], &[1])), ("x", call.clone())]));
        calls.push([b"\x80\x04}".to_vec(), call.clone(), b"K\x01s.".to_vec()].concat());
        calls.push([b"\x80\x04]".to_vec(), call.clone(), b"\x85a.".to_vec()].concat());
        let mut hooked = tensor("0", 1, 0, &[1], &[1]);
        let hooks = b"ccollections\nOrderedDict\n)R";
        let at = hooked.windows(hooks.len()).rposition(|w| w == hooks).unwrap();
        hooked.splice(at..at + hooks.len(), call.clone());
        calls.push(dict(&[("fc1.weight", hooked)]));
        calls.push([b"\x80\x04ccollections\nOrderedDict\n)R".to_vec(), call.clone(), b"b.".to_vec()].concat());
        calls.push([b"\x80\x04".to_vec(), call.clone(), b"Q.".to_vec()].concat());
        // __reduce__ with a state: the call, then BUILD.
        calls.push([b"\x80\x04".to_vec(), call, b"}b.".to_vec()].concat());
    }
    calls.push([b"\x80\x02(".to_vec(), string("touch"), format!("i{module}\n{name}\n.").into_bytes()].concat());
    calls
}

#[test]
fn no_python_object_outside_the_list_is_ever_named() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.__init__"),
        ("torch", "LongStorage"),
        ("torch.storage", "_load_from_bytes"),
        ("__main__", "Net"),
    ] {
        for call in calls(module, name) {
            let expected = format!(
                "it asks for the Python object {module}.{name}, which no state_dict of float tensors needs: refused, nothing was run"
            );
            assert_eq!(refusal(&call), expected);
        }
    }
}

#[test]
fn a_name_fit_for_no_terminal_is_made_fit() {
    let message = refusal(&[b"\x80\x02", format!("cos\n\x1b[2J{}\n.", "x".repeat(500)).as_bytes()].concat());
    assert!(message.starts_with("it asks for the Python object os.\\u{1b}[2Jxxx"), "{message}");
    assert!(message.len() < 200, "{message}");
}

#[test]
fn known_names_can_only_be_called_as_torch_calls_them() {
    let function = |name: &str| format!("c{}\n", name.replace(' ', "\n")).into_bytes();
    let pickle = |parts: &[&[u8]]| [b"\x80\x04".to_vec(), parts.concat(), b".".to_vec()].concat();
    for (object, expected) in [
        (pickle(&[&function("torch FloatStorage"), b")R"]), "it asks to call torch.FloatStorage,"),
        (pickle(&[&string("os.system"), b")R"]), "it asks to call a string,"),
        (pickle(&[b"})R"]), "it asks to call a dict,"),
        (pickle(&[&tensor("0", 1, 0, &[1], &[1]), b")R"]), "it asks to call a tensor,"),
        (pickle(&[&tensor("0", 1, 0, &[1], &[1]), b"}b"]), "it asks to call __setstate__ of a tensor,"),
        (pickle(&[&function("torch FloatStorage"), b"}b"]), "it asks to call __setstate__ of a function or class,"),
        (pickle(&[b"(icollections\nOrderedDict\n"]), "it asks to call collections.OrderedDict,"),
        (
            pickle(&[&function("collections OrderedDict"), b"]R"]),
            "the pickle is damaged at byte 28: a call whose arguments are no tuple",
        ),
        (
            pickle(&[&function("collections OrderedDict"), b"]\x85R"]),
            "the pickle is damaged at byte 29: an OrderedDict with arguments",
        ),
        (pickle(&[b"}K\x01b"]), "the pickle is damaged at byte 5: attributes that are no dict"),
        (pickle(&[b"K\x01K\x02\x93"]), "the pickle is damaged at byte 6: a global whose name is no string"),
        (pickle(&[&function("collections OrderedDict"), b")\x81"]), "it has the pickle instruction NEWOBJ at byte 28,"),
        (pickle(&[b"(", &function("collections OrderedDict"), b"o"]), "it has the pickle instruction OBJ at byte 28,"),
        (pickle(&[b"\x82\x01"]), "it has the pickle instruction EXT at byte 2,"),
        (pickle(&[b"P1\n"]), "it has the pickle instruction PERSID at byte 2,"),
        (pickle(&[b"I1\n"]), "it has the pickle instruction of protocol 0 at byte 2,"),
        (pickle(&[b"\x00"]), "it has the pickle instruction 0x00 at byte 2,"),
        (b"\x80\x01N.".to_vec(), "the pickle is damaged at byte 1: a protocol other than 2 to 5"),
    ] {
        let message = if object.starts_with(b"\x80\x01") {
            Pickle::read(&object).unwrap_err().to_string()
        } else {
            refusal(&object)
        };
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn instructions_that_make_no_sense_are_refused() {
    for body in [
        &b"."[..],
        b"a.",
        b"NN.",
        b"(N.",
        b"t.",
        b"Na.",
        b"NNa.",
        b"](NN",
        b"}(Nu.",
        b"}NNNs.",
        b"(a.",
        b"](\x85.",
        b"h\x00.",
        b"j\x01\x00\x00\x00.",
        b"q\x00.",
        b"Q.",
        b"R.",
        b"b.",
        b"\x93.",
        b"X\xff\xff\xff\xff.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x8a\xff.",
        b"\x8a\x11\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01.",
        b"c.",
        b"cos\n.",
        b"X\x01\x00\x00\x00\xff.",
        b"\x95\xff.",
        b"",
    ] {
        assert!(Pickle::read(&[b"\x80\x02", body].concat()).is_err(), "{body:?}");
    }
}

#[test]
fn integers_are_twos_complement() {
    use eddyline::model::pickle::Node;
    for (instruction, expected) in [
        (b"K\xff".to_vec(), 255),
        (b"M\xff\xff".to_vec(), 65_535),
        (b"J\xff\xff\xff\xff".to_vec(), -1),
        (b"\x8a\x00".to_vec(), 0),
        (b"\x8a\x01\xff".to_vec(), -1),
        (b"\x8a\x02\xff\x00".to_vec(), 255),
        (int(i64::MIN), i128::from(i64::MIN)),
        ([b"\x8a\x10".as_slice(), &i128::MIN.to_le_bytes()].concat(), i128::MIN),
    ] {
        let bytes = [b"\x80\x02".to_vec(), instruction, b".".to_vec()].concat();
        let pickle = Pickle::read(&bytes).unwrap();
        assert_eq!(*pickle.node(pickle.root()), Node::Int(expected));
    }
}

/// A million nested tuples, lists in themselves, dicts that multiply: bounded in stack, time and memory.
#[test]
fn nests_and_knots_are_bounded() {
    let deep = [b"\x80\x02N".to_vec(), vec![0x85; 200_000], b".".to_vec()].concat();
    assert!(Pickle::read(&deep).is_ok(), "depth costs nothing");
    for (object, expected) in [
        (deep, "the file's object is a tuple, where a state_dict (a dict of tensors) is needed"),
        ([b"\x80\x02".to_vec(), vec![b']'; 70_000], b".".to_vec()].concat(), "the pickle's stack goes beyond 65536,"),
        ([b"\x80\x02".to_vec(), vec![b'('; 2_000], b".".to_vec()].concat(), "the pickle's depth goes beyond 1024,"),
        (
            [b"\x80\x02N".to_vec(), vec![0x85; 300_000], b".".to_vec()].concat(),
            "the pickle's number of values goes beyond 262144,",
        ),
        ([b"\x80\x02N".to_vec(), vec![0x94; 300_000], b".".to_vec()].concat(), "the pickle's memo goes beyond 65536,"),
        ([b"\x80\x02", "Nq\x00".repeat(400_000).as_bytes()].concat(), "the pickle's stack goes beyond 65536,"),
        (
            [b"\x80\x02".to_vec(), [0x80, 2].repeat(1 << 20)].concat(),
            "the pickle's length in bytes goes beyond 1048576,",
        ),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00kh\x00s.".to_vec(), "the depth of dicts goes beyond 4,"),
        (wide_dicts(), "the number of keys goes beyond 4096,"),
        (dict(&[(&"k".repeat(300), b"N".to_vec())]), "the length of a key goes beyond 256,"),
        (dict(&[("a", b"N".to_vec())]), "\"a\" is None, where a tensor is needed"),
        (b"\x80\x02}K\x01K\x02s.".to_vec(), "a key in \"\" is an int, where a string is needed"),
        ([b"\x80\x02".to_vec(), tuple(&[int(1)]), b".".to_vec()].concat(), "the file's object is a tuple,"),
    ] {
        let message = StateDict::read(&zip_pt(&object, &[])).unwrap_err().to_string();
        assert!(message.starts_with(expected) || message.contains("part of the archive"), "{message}");
        let message = StateDict::read(&legacy_pt(&object, &[])).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

/// Three levels of a dict whose thousand values are all the next dict: a billion entries in a few kilobytes.
fn wide_dicts() -> Vec<u8> {
    let mut value = b"}q\x00".to_vec();
    for level in 1..4_u8 {
        let mut dict = [b"}(".to_vec(), string("0"), value].concat();
        for key in 1..1000 {
            dict.extend(string(&key.to_string()));
            dict.extend([b'h', level - 1]);
        }
        dict.extend([b'u', b'q', level]);
        value = dict;
    }
    [b"\x80\x02".to_vec(), value, b".".to_vec()].concat()
}
