//! How does one table of classes, methods and arguments become types that read and write themselves?

use bytes::{BufMut, BytesMut};

use super::{Error, Reader};

/// The arguments of one method.
pub trait Arguments: Sized {
    /// The class on the wire.
    const CLASS: u16;
    /// The method on the wire.
    const METHOD: u16;
    /// `class.method`, as the specification calls it.
    const NAME: &'static str;
    /// Whether a content header and a body follow.
    const CONTENT: bool;

    /// Takes the arguments off the front of a payload.
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error>;

    /// Writes the arguments alone.
    fn write(&self, out: &mut BytesMut);

    /// Writes class, method and arguments.
    fn write_payload(&self, out: &mut BytesMut) {
        out.put_u16(Self::CLASS);
        out.put_u16(Self::METHOD);
        self.write(out);
    }
}

/// `classes! { module class_number "class" { Variant = Method number "method" content { argument: type } } }` gives a
/// module for each class with a struct for each method, and the enum of all methods.
macro_rules! classes {
    ($(
        $(#[$class_doc:meta])*
        $module:ident $class:literal $class_name:literal {$(
            $(#[$doc:meta])*
            $variant:ident = $name:ident $method:literal $text:literal $($content:ident)? {
                $($argument:ident: $type:ty),* $(,)?
            }
        )*}
    )*) => {
        $(
            $(#[$class_doc])*
            pub mod $module {
                use super::*;
                $(
                    $(#[$doc])*
                    #[derive(Clone, Debug, Default, PartialEq)]
                    pub struct $name {
                        $(#[allow(missing_docs)] pub $argument: $type,)*
                    }

                    impl Arguments for $name {
                        const CLASS: u16 = $class;
                        const METHOD: u16 = $method;
                        const NAME: &'static str = concat!($class_name, ".", $text);
                        const CONTENT: bool = classes!(@content $($content)?);

                        #[inline]
                        #[allow(unused_variables)]
                        fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
                            Ok($name { $($argument: Take::take(reader)?,)* })
                        }

                        #[inline]
                        #[allow(unused_mut)]
                        fn write(&self, out: &mut BytesMut) {
                            let mut writer = Writer::new(out);
                            $(Field::put(&self.$argument, &mut writer);)*
                            writer.finish();
                        }
                    }

                    impl From<$name> for Method {
                        fn from(arguments: $name) -> Method {
                            Method::$variant(arguments)
                        }
                    }
                )*
            }
        )*

        /// Any method with its arguments.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Method {
            $($(
                $(#[$doc])*
                $variant($module::$name),
            )*)*
        }

        impl Method {
            /// Reads the whole payload of a method frame.
            pub fn read(payload: &[u8]) -> Result<Method, Error> {
                let mut reader = Reader::new(payload);
                let (class, method) = (reader.u16()?, reader.u16()?);
                let read = match (class, method) {
                    $($(($class, $method) => Method::$variant(Arguments::read(&mut reader)?),)*)*
                    $(($class, _) => return Err(Error::UnknownMethod { class, method }),)*
                    // file, stream, dtx, tunnel of AMQP 0-8 and 0-9.
                    (70 | 80 | 100 | 110, _) => return Err(Error::NotImplemented(class)),
                    _ => return Err(Error::UnknownClass(class)),
                };
                reader.finish()?;
                Ok(read)
            }

            /// Writes class, method and arguments.
            pub fn write_payload(&self, out: &mut BytesMut) {
                match self {
                    $($(Method::$variant(arguments) => arguments.write_payload(out),)*)*
                }
            }

            /// Class and method on the wire.
            pub fn numbers(&self) -> (u16, u16) {
                match self {
                    $($(Method::$variant(_) => ($class, $method),)*)*
                }
            }

            /// `class.method`, as the specification calls it.
            pub fn name(&self) -> &'static str {
                match self {
                    $($(Method::$variant(_) => <$module::$name as Arguments>::NAME,)*)*
                }
            }

            /// Whether a content header and a body follow.
            pub fn has_content(&self) -> bool {
                match self {
                    $($(Method::$variant(_) => <$module::$name as Arguments>::CONTENT,)*)*
                }
            }

            /// Each method with arguments that are all empty, zero or false.
            pub fn all() -> Vec<Method> {
                vec![$($(Method::$variant($module::$name::default()),)*)*]
            }
        }
    };
    (@content content) => { true };
    (@content) => { false };
}

pub(super) use classes;
